//! What becomes of memory that a training step is done with.

/// Keeps freed memory in the process. Call it first in `main`.
///
/// A training step takes and frees the same large buffers as the one before. glibc gives each of
/// them back to the system, which then clears and maps the pages anew at first touch: a third of
/// the time of a ResNet-110 step. Afterwards they stay for the next step; the peak is the same.
/// Does nothing on other C libraries.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// Bytes by which the heap grows at a time.
        const GROWTH: libc::c_int = 64 << 20;
        // SAFETY: only sets the allocator's own parameters, before other threads exist.
        unsafe {
            // One heap for all threads: what one frees another takes.
            libc::mallopt(libc::M_ARENA_MAX, 1);
            // Nothing outside the heap, where it would be unmapped when freed.
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
            libc::mallopt(libc::M_TOP_PAD, GROWTH);
        }
    }
}
