//! Compiles `bpf/` and generates the skeleton, the only Rust view of its structs.

use std::env;
use std::path::PathBuf;

use libbpf_cargo::SkeletonBuilder;

fn main() {
    let crate_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("kilter.skel.rs");
    let bpf = crate_dir.join("../../bpf");
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it");

    // Tests compile programs as they are compiled here.
    let headers = env::var("DEP_BPF_INCLUDE").expect("libbpf-sys says where its headers are");
    println!("cargo:rustc-env=KILTER_BPF_HEADERS={headers}");
    let target = if arch == "x86_64" { "x86" } else { arch.as_str() };
    println!("cargo:rustc-env=KILTER_BPF_ARCH={target}");
    // A directory is watched with everything in it.
    println!("cargo:rerun-if-changed={}", bpf.display());
    let built = SkeletonBuilder::new()
        .source(bpf.join("kilter.bpf.c"))
        .clang_args([
            "-Wall",
            "-Wextra",
            "-Werror",
            "-Wno-unused-parameter",
            "-Wno-sign-compare",
            // Where Debian keeps asm/types.h; elsewhere it is in /usr/include and this is ignored.
            &format!("-I/usr/include/{arch}-linux-gnu"),
        ])
        .build_and_generate(&out);
    if let Err(error) = built {
        panic!(
            "cannot compile bpf/: {error:?}\nclang and the kernel's headers are needed: \
             apt-get install clang llvm libelf-dev zlib1g-dev linux-libc-dev"
        );
    }
}
