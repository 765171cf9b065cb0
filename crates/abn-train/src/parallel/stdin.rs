//! How a process that another one started learns that it is to stop.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Sets `stop` once the process that started this one says so, or is gone: when a byte comes on the
/// standard input, or its end. Unlike a signal, that works on every system, and nobody is left behind
/// if the parent is killed.
pub fn stop_with_parent(stop: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        drop(std::io::stdin().read(&mut [0]));
        stop.store(true, Ordering::Relaxed);
    });
}
