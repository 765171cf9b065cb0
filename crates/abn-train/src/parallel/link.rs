//! Messages between rank 0 and the others, and sums over all of them.
//!
//! A star: everybody has one connection to rank 0, which adds up in the order of the ranks, so that
//! a sum has the same bits whoever was first. A message says what it belongs to, so that processes that
//! are out of step find out at once.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::{Error, Result};

/// Connections between rank 0 and the others, for one purpose.
pub(crate) struct Link {
    rank: usize,
    /// Of rank 0 those to rank 1, 2, …; of another the one to rank 0.
    peers: Vec<Peer>,
    timeout: Duration,
}

pub(crate) struct Peer {
    pub rank: usize,
    pub stream: TcpStream,
}

/// What a message is part of.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Sum32 = 1,
    Sum64 = 2,
    Gather = 3,
    Broadcast = 4,
    /// The sender has failed: whose fault it is and what is wrong.
    Failed = 5,
}

/// Numbers that are summed.
pub(crate) trait Number: Copy + std::ops::AddAssign {
    const KIND: u8;
    fn put(self, bytes: &mut Vec<u8>);
    fn take(bytes: &[u8]) -> Self;
}

macro_rules! number {
    ($($t:ty = $kind:ident),*) => {$(
        impl Number for $t {
            const KIND: u8 = Kind::$kind as u8;
            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend(self.to_le_bytes());
            }
            fn take(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("cut to its size"))
            }
        }
    )*};
}
number!(f32 = Sum32, f64 = Sum64);

impl Link {
    /// `peers` in the order of their ranks; a rank that sends nothing for `timeout` is given up.
    pub fn new(rank: usize, peers: Vec<Peer>, timeout: Duration) -> Result<Self> {
        for Peer { rank, stream } in &peers {
            let set = || {
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(timeout))
            };
            set().map_err(|error| gone(*rank, &error, timeout))?;
        }
        Ok(Self { rank, peers, timeout })
    }

    /// Everybody's sum, in place.
    ///
    /// # Errors
    /// [`Error::Peer`] if a rank cannot be reached, has failed or sends something else.
    pub fn sum<T: Number>(&mut self, values: &mut [T]) -> Result<()> {
        let mut bytes = Vec::with_capacity(size_of_val(values));
        let fill = |bytes: &mut Vec<u8>, values: &[T]| {
            bytes.clear();
            values.iter().for_each(|value| value.put(bytes));
        };
        if self.rank == 0 {
            for peer in 0..self.peers.len() {
                self.receive(peer, T::KIND, Some(size_of_val(values)), &mut bytes)?;
                for (sum, value) in values.iter_mut().zip(bytes.chunks_exact(size_of::<T>())) {
                    *sum += T::take(value);
                }
            }
            fill(&mut bytes, values);
            return self.send_all(T::KIND, &bytes);
        }
        fill(&mut bytes, values);
        self.send_all(T::KIND, &bytes)?;
        self.receive(0, T::KIND, Some(size_of_val(values)), &mut bytes)?;
        for (sum, value) in values.iter_mut().zip(bytes.chunks_exact(size_of::<T>())) {
            *sum = T::take(value);
        }
        Ok(())
    }

    /// Everybody's bytes at rank 0, in the order of the ranks; nothing at the others.
    ///
    /// # Errors
    /// As [`Link::sum`].
    pub fn gather(&mut self, bytes: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        if self.rank != 0 {
            self.send_all(Kind::Gather as u8, &bytes)?;
            return Ok(Vec::new());
        }
        let mut all = vec![bytes];
        for peer in 0..self.peers.len() {
            let mut bytes = Vec::new();
            self.receive(peer, Kind::Gather as u8, None, &mut bytes)?;
            all.push(bytes);
        }
        Ok(all)
    }

    /// Rank 0's bytes, for everybody.
    ///
    /// # Errors
    /// As [`Link::sum`].
    pub fn broadcast(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        if self.rank == 0 {
            self.send_all(Kind::Broadcast as u8, &bytes)?;
            return Ok(bytes);
        }
        let mut bytes = Vec::new();
        self.receive(0, Kind::Broadcast as u8, None, &mut bytes)?;
        Ok(bytes)
    }

    /// Tells the others, as far as they can be reached, that this process has failed.
    pub fn fail(&mut self, culprit: usize, problem: &str) {
        let mut bytes = (culprit as u32).to_le_bytes().to_vec();
        bytes.extend(problem.as_bytes());
        for peer in &mut self.peers {
            // Somebody is failing already: that nobody listens any more changes nothing.
            drop(peer.stream.set_write_timeout(Some(Duration::from_secs(2))));
            drop(write(&mut peer.stream, Kind::Failed as u8, &bytes));
        }
    }

    /// After another link broke at `rank`: what that process, or rank 0, has said of the reason
    /// on this one.
    pub fn reason(&mut self, rank: usize) -> Option<Error> {
        let peer = if self.rank == 0 { rank.checked_sub(1)? } else { 0 };
        let stream = &mut self.peers.get_mut(peer)?.stream;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        // What it sent before it failed may lie before it.
        loop {
            let mut bytes = Vec::new();
            let kind = read(stream, &mut bytes, None).ok()?;
            if kind == Kind::Failed as u8 {
                return Some(failed(&bytes));
            }
        }
    }

    fn send_all(&mut self, kind: u8, bytes: &[u8]) -> Result<()> {
        let timeout = self.timeout;
        for Peer { rank, stream } in &mut self.peers {
            write(stream, kind, bytes).map_err(|error| gone(*rank, &error, timeout))?;
        }
        Ok(())
    }

    fn receive(
        &mut self,
        peer: usize,
        kind: u8,
        len: Option<usize>,
        bytes: &mut Vec<u8>,
    ) -> Result<()> {
        let timeout = self.timeout;
        let Peer { rank, stream } = &mut self.peers[peer];
        let got = stream
            .set_read_timeout(Some(timeout))
            .and_then(|()| read(stream, bytes, len))
            .map_err(|error| gone(*rank, &error, timeout))?;
        if got == Kind::Failed as u8 {
            return Err(failed(bytes));
        }
        if got != kind || len.is_some_and(|len| bytes.len() != len) {
            let problem = "computes something else (is it the same program and data?)".to_owned();
            return Err(Error::Peer { rank: *rank, problem });
        }
        Ok(())
    }
}

fn gone(rank: usize, error: &std::io::Error, timeout: Duration) -> Error {
    let problem = match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            format!("has sent nothing for {} s", timeout.as_secs_f64())
        }
        ErrorKind::UnexpectedEof
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe => "is gone: its process has ended".to_owned(),
        _ => format!("cannot be reached: {error}"),
    };
    Error::Peer { rank, problem }
}

fn failed(bytes: &[u8]) -> Error {
    let (rank, problem) = bytes.split_at(bytes.len().min(4));
    let rank = rank.try_into().map_or(0, u32::from_le_bytes) as usize;
    Error::Peer { rank, problem: String::from_utf8_lossy(problem).into_owned() }
}

pub(super) fn write(stream: &mut TcpStream, kind: u8, bytes: &[u8]) -> std::io::Result<()> {
    let mut head = [kind; 9];
    head[1..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    stream.write_all(&head)?;
    stream.write_all(bytes)
}

/// Reads a message, of which no more than `most` bytes are taken if that is given.
pub(super) fn read(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
    most: Option<usize>,
) -> std::io::Result<u8> {
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let len = u64::from_le_bytes(head[1..].try_into().expect("eight bytes"));
    bytes.clear();
    // Memory grows with what arrives, not with what was announced; a failure's text may be longer
    // than what was waited for.
    let cap = if head[0] == Kind::Failed as u8 { Some(1 << 16) } else { most };
    if cap.is_some_and(|most| len > most as u64) {
        return Ok(0);
    }
    let got = stream.take(len).read_to_end(bytes)?;
    if (got as u64) < len {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(head[0])
}

#[cfg(test)]
mod tests;
