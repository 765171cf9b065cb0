//! How the processes find each other: rank 0 listens, the others come.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::link::{self, Link, Peer};
use super::place::Place;
use crate::{Error, Result};

/// Purposes that processes have connections for, of each one.
pub(crate) const LINKS: usize = 3;

const HELLO: u8 = 0xA0;
const WELCOME: u8 = 0xA1;
const REFUSED: u8 = 0xA2;
/// First of a hello: what speaks here, and in which version.
const MAGIC: &str = "abn-parallel-1";
/// Longer ones are nobody's of ours.
const LONGEST: usize = 4096;

/// Connects this process with the others: for each purpose a link.
///
/// # Errors
/// [`Error::Parallel`] if rank 0 cannot listen or be found; [`Error::Peer`] naming who did not come
/// within `patience`.
pub(crate) fn connect(
    place: &Place,
    patience: Duration,
    timeout: Duration,
) -> Result<[Link; LINKS]> {
    let deadline = Instant::now() + patience;
    let peers = match place.rank {
        0 => welcome(place, listen(place)?, patience, deadline)?,
        _ => {
            let mut peers = Vec::new();
            for purpose in 0..LINKS {
                peers.push(vec![Peer {
                    rank: 0,
                    stream: call(place, purpose, patience, deadline)?,
                }]);
            }
            peers
        }
    };
    let mut links = Vec::new();
    for peers in peers {
        links.push(Link::new(place.rank, peers, timeout)?);
    }
    links.try_into().map_err(|_| Error::Parallel("a link for each purpose".into()))
}

/// The address of rank 0 as this host knows it, IPv4 first: that is what most listen on.
fn addresses(place: &Place) -> std::io::Result<Vec<SocketAddr>> {
    let mut found: Vec<_> = (place.address.as_str(), place.port).to_socket_addrs()?.collect();
    found.sort_by_key(|address| !address.is_ipv4());
    Ok(found)
}

fn listen(place: &Place) -> Result<TcpListener> {
    let Place { address, port, .. } = place;
    let refuse = |error: std::io::Error| {
        let hint = match error.kind() {
            ErrorKind::AddrInUse => "; choose another MASTER_PORT",
            _ => "",
        };
        Error::Parallel(format!("rank 0 cannot listen on {address}:{port}: {error}{hint}"))
    };
    let found = addresses(place).map_err(refuse)?;
    match TcpListener::bind(&found[..]) {
        // Behind a router, the address that others call is none of this host's own.
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).map_err(refuse)
        }
        other => other.map_err(refuse),
    }
}

/// Rank 0: waits for everybody.
fn welcome(
    place: &Place,
    listener: TcpListener,
    patience: Duration,
    deadline: Instant,
) -> Result<Vec<Vec<Peer>>> {
    let io = |error: std::io::Error| Error::Parallel(format!("rank 0 cannot listen: {error}"));
    listener.set_nonblocking(true).map_err(io)?;
    let mut seats: Vec<Vec<Option<TcpStream>>> =
        (0..LINKS).map(|_| (1..place.world).map(|_| None).collect()).collect();
    while seats.iter().flatten().any(Option::is_none) {
        match listener.accept() {
            Ok((stream, _)) => {
                if let Some((purpose, rank, stream)) = seat(place, stream, &seats)? {
                    seats[purpose][rank - 1] = Some(stream);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(Duration::from_millis(5)),
            Err(error) => return Err(io(error)),
        }
        if Instant::now() > deadline {
            let absent = |rank: &usize| seats.iter().any(|seats| seats[rank - 1].is_none());
            let absent: Vec<usize> = (1..place.world).filter(absent).collect();
            let Some(&rank) = absent.first() else { break };
            let others = match absent.len() {
                1 => String::new(),
                _ => {
                    let others: Vec<_> = absent[1..].iter().map(usize::to_string).collect();
                    format!(", nor did {}", others.join(", "))
                }
            };
            let problem = format!("did not come within {} s{others}", patience.as_secs_f64());
            return Err(Error::Peer { rank, problem });
        }
    }
    let peers = |seats: Vec<Option<TcpStream>>| {
        let taken = seats.into_iter().enumerate();
        taken.filter_map(|(i, stream)| Some(Peer { rank: i + 1, stream: stream? })).collect()
    };
    Ok(seats.into_iter().map(peers).collect())
}

/// Who a caller is; `None` if it is nobody of ours.
fn seat(
    place: &Place,
    mut stream: TcpStream,
    seats: &[Vec<Option<TcpStream>>],
) -> Result<Option<(usize, usize, TcpStream)>> {
    let mut bytes = Vec::new();
    // A stranger may say nothing at all, and must not hold up the others for long.
    let heard = stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_read_timeout(Some(Duration::from_secs(2))))
        .and_then(|()| link::read(&mut stream, &mut bytes, Some(LONGEST)));
    let Ok(HELLO) = heard else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let fields: Vec<&str> = text.splitn(5, '\n').collect();
    let &[magic, world, purpose, rank, job] = &fields[..] else { return Ok(None) };
    let refused = if magic != MAGIC {
        Some("rank 0 is another version of the program".to_owned())
    } else if job != place.job {
        Some("rank 0 is of another launch (is MASTER_PORT taken twice?)".to_owned())
    } else if world != place.world.to_string() {
        Some(format!("rank 0 was told WORLD_SIZE {}, this process {world}", place.world))
    } else {
        None
    };
    let number = |text: &str| text.parse::<usize>().ok();
    let (purpose, rank) = (number(purpose), number(rank));
    let wanted = purpose.zip(rank).filter(|&(purpose, rank)| purpose < LINKS && rank > 0);
    let free = wanted
        .is_some_and(|(purpose, rank)| seats[purpose].get(rank - 1).is_some_and(Option::is_none));
    let refused = refused.or((!free).then(|| "another process has the same RANK".to_owned()));
    match (refused, wanted) {
        (None, Some((purpose, rank))) => {
            let welcomed = link::write(&mut stream, WELCOME, &[]);
            Ok(welcomed.is_ok().then_some((purpose, rank, stream)))
        }
        (refused, _) => {
            // It tells its user; this process goes on waiting for the right one.
            drop(link::write(&mut stream, REFUSED, refused.unwrap_or_default().as_bytes()));
            Ok(None)
        }
    }
}

/// Another rank: calls rank 0 until it answers.
fn call(place: &Place, purpose: usize, patience: Duration, deadline: Instant) -> Result<TcpStream> {
    let Place { rank, world, address, port, job, .. } = place;
    let hello = format!("{MAGIC}\n{world}\n{purpose}\n{rank}\n{job}");
    loop {
        let error = match try_call(place, &hello) {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(refused)) => {
                let at = format!("{address}:{port}");
                return Err(Error::Parallel(format!("rank {rank} was refused at {at}: {refused}")));
            }
            Err(error) => error,
        };
        if Instant::now() > deadline {
            let problem = format!(
                "did not answer at {address}:{port} within {} s ({error})",
                patience.as_secs_f64()
            );
            return Err(Error::Peer { rank: 0, problem });
        }
        sleep(Duration::from_millis(30));
    }
}

fn try_call(place: &Place, hello: &str) -> std::io::Result<Result<TcpStream, String>> {
    const WAIT: Duration = Duration::from_secs(5);
    let mut last = ErrorKind::NotFound.into();
    for address in addresses(place)? {
        let mut stream = match TcpStream::connect_timeout(&address, WAIT) {
            Ok(stream) => stream,
            Err(error) => {
                last = error;
                continue;
            }
        };
        let mut bytes = Vec::new();
        stream.set_read_timeout(Some(WAIT))?;
        link::write(&mut stream, HELLO, hello.as_bytes())?;
        return match link::read(&mut stream, &mut bytes, Some(LONGEST))? {
            WELCOME => Ok(Ok(stream)),
            REFUSED => Ok(Err(String::from_utf8_lossy(&bytes).into_owned())),
            // A call to a free port of this host may be given that very port, and answer itself.
            HELLO => Err(ErrorKind::ConnectionRefused.into()),
            _ => Ok(Err("something else than rank 0 listens there".to_owned())),
        };
    }
    Err(last)
}
