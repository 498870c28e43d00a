use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::skel::Plain;
use crate::{Error, Result, sys};

/// A map of the kernel with the types of its rows.
#[derive(Debug)]
pub(crate) struct Table<K, V> {
    name: &'static str,
    size: u32,
    fd: OwnedFd,
    rows: PhantomData<fn(K) -> V>,
}

impl<K: Plain, V: Plain> Table<K, V> {
    /// The map must have keys and values of these sizes (for maps per CPU: of each CPU).
    pub(crate) fn new(name: &'static str, size: u32, fd: OwnedFd) -> Self {
        Self { name, size, fd, rows: PhantomData }
    }

    pub(crate) fn get(&self, key: &K) -> Result<Option<V>> {
        let mut value = vec![0; size_of::<V>()];
        let found = sys::map_lookup(self.fd.as_fd(), key.bytes(), &mut value);
        match found.map_err(|e| self.error("look up", e))? {
            true => Ok(V::from_bytes(&value)),
            false => Ok(None),
        }
    }

    /// The values of every possible CPU, for a map per CPU.
    pub(crate) fn get_per_cpu(&self, key: &K, cpus: usize) -> Result<Vec<V>> {
        let stride = size_of::<V>().next_multiple_of(8);
        let mut values = vec![0; stride * cpus];
        sys::map_lookup(self.fd.as_fd(), key.bytes(), &mut values).map_err(|e| self.error("look up", e))?;
        Ok(values.chunks(stride).filter_map(|value| V::from_bytes(&value[..size_of::<V>()])).collect())
    }

    /// Writes a row, whether or not it was there.
    pub(crate) fn put(&self, key: &K, value: &V) -> Result<()> {
        self.update(key, value, libbpf_sys::BPF_ANY).map_err(|e| self.error("write a row", e))
    }

    /// Writes a row that is not there yet; `false` when it is.
    pub(crate) fn insert(&self, key: &K, value: &V) -> Result<bool> {
        match self.update(key, value, libbpf_sys::BPF_NOEXIST) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
            Err(error) => Err(self.error("write a row", error)),
        }
    }

    /// Removes a row; `false` when it was not there.
    pub(crate) fn remove(&self, key: &K) -> Result<bool> {
        sys::map_delete(self.fd.as_fd(), key.bytes()).map_err(|e| self.error("delete a row", e))
    }

    pub(crate) fn keys(&self) -> Result<Vec<K>> {
        let mut keys = Vec::new();
        let mut next = vec![0; size_of::<K>()];
        let mut last: Option<K> = None;
        loop {
            let found = sys::map_next_key(self.fd.as_fd(), last.as_ref().map(K::bytes), &mut next);
            if !found.map_err(|e| self.error("list rows", e))? {
                return Ok(keys);
            }
            last = K::from_bytes(&next);
            keys.extend(last);
        }
    }

    pub(crate) fn rows(&self) -> Result<Vec<(K, V)>> {
        let mut rows = Vec::new();
        for key in self.keys()? {
            rows.extend(self.get(&key)?.map(|value| (key, value)));
        }
        Ok(rows)
    }

    /// How many rows fit.
    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    fn update(&self, key: &K, value: &V, flags: u32) -> io::Result<()> {
        sys::map_update(self.fd.as_fd(), key.bytes(), value.bytes(), flags.into())
    }

    fn error(&self, action: &'static str, source: io::Error) -> Error {
        match source.raw_os_error() {
            // Hashes answer E2BIG, tries ENOSPC.
            Some(libc::E2BIG | libc::ENOSPC) => Error::Full { table: self.name, size: self.size },
            _ => Error::Table { action, table: self.name, source },
        }
    }
}

impl<K, V> AsFd for Table<K, V> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
