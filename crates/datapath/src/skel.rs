//! The generated skeleton, and what is asserted about it. `bpf/abi.h` explains the types.

#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    dead_code,
    unsafe_op_in_unsafe_fn,
    rust_2018_idioms,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    reason = "generated"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/kilter.skel.rs"));
}

pub(crate) use generated::{KilterSkelBuilder, types};

/// A struct of `bpf/abi.h`: any bytes are one, and all its bytes are in some field.
///
/// # Safety
///
/// The type is `repr(C)`, has no padding and no invalid values.
pub(crate) unsafe trait Plain: Copy + Default + Sized {
    /// Its bytes, as the kernel has them.
    fn bytes(&self) -> &[u8] {
        // SAFETY: the implementer promises that there is no padding, so every byte is initialised;
        // the slice borrows `self` and has its size.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(self).cast(), size_of::<Self>()) }
    }

    /// One from exactly as many bytes.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != size_of::<Self>() {
            return None;
        }
        // SAFETY: there are as many bytes as are read, and the implementer promises that any are valid.
        Some(unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) })
    }
}

macro_rules! plain {
    ($($name:ty: $size:literal,)*) => {
        $(
            const _: () = assert!(size_of::<$name>() == $size);
            // SAFETY: integers and arrays of them only; abi.h has explicit pads, and the size says
            // that there are no others.
            unsafe impl Plain for $name {}
        )*
    };
}

plain! {
    u32: 4,
    u64: 8,
    types::settings: 4,
    types::address: 16,
    types::class_key: 20,
    types::class_row: 8,
    types::announced: 8,
    types::source_key: 24,
    types::chunk_key: 8,
    types::chunk: 128,
    types::namespace: 32,
    types::interval_key: 12,
    types::interval_row: 8,
    types::set_key: 12,
    types::decision: 8,
    types::endpoint: 24,
    types::node: 16,
    types::flow_key: 40,
    types::flow: 56,
    types::sweep: 32,
    types::frontend: 24,
    types::frontend_row: 16,
    types::tuple: 40,
    types::nat: 56,
    types::backend_key: 8,
    types::backend: 24,
    types::event: 56,
    types::retried: 80,
}

/// Part of every pin's path.
pub(crate) const ABI_VERSION: u32 = types::abi::ABI_VERSION.0;
