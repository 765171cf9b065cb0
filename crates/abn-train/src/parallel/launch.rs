//! Starts the processes of one host, and ends them together.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::place::Place;
use crate::{Error, Result};

/// Set in the environment of a process that [`launch`] started: it listens on its standard input, and
/// leaves it to its parent to tell that another has failed.
const LAUNCHED: &str = "ABN_LAUNCHED";
/// Exit status of such a process that ended because another did.
const LOST: u8 = 75;
/// Exit status of one that was stopped and has saved.
const INTERRUPTED: u8 = 130;

/// Whether [`launch`] started this process.
pub fn is_launched() -> bool {
    std::env::var_os(LAUNCHED).is_some()
}

/// The exit status of a process that [`launch`] started and that fails because another has; its
/// parent says so, once for all.
pub fn left_to_parent(error: &Error) -> Option<u8> {
    (is_launched() && matches!(error, Error::Peer { .. })).then_some(LOST)
}

/// What to start.
#[derive(Clone, Debug)]
pub struct Launch {
    /// How many processes.
    pub processes: usize,
    /// The program, which calls [`Place::from_environment`].
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// When set, all are told to stop.
    pub stop: Arc<AtomicBool>,
    /// How long the others may take to end after one has failed.
    pub grace: Duration,
}

/// How processes that did not all succeed have ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// All did what they were asked to.
    Well,
    /// They were stopped, and have saved.
    Stopped,
    /// Rank 0 has failed, and has said why.
    Told,
}

struct Worker {
    child: Child,
    /// What it says on the standard error; rank 0 speaks for itself.
    said: Option<JoinHandle<String>>,
    ended: Option<ExitStatus>,
    /// Ended by this process, as it took too long after another had failed.
    late: bool,
}

/// Starts the processes with the environment that torchrun gives, and waits for all of them. Rank 0 has
/// this process's standard output and error; of another, only what it says if it fails is told.
///
/// If one fails, the others are given time to notice, and are then ended.
///
/// # Errors
/// [`Error::Parallel`] with the one cause if a process cannot be started, is ended from outside, or
/// fails and is not rank 0.
pub fn launch(launch: &Launch) -> Result<Ended> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let job = format!("{}-{}", std::process::id(), since.as_nanos());
    let port = free_port(since.subsec_nanos() as usize)?;
    let mut workers = Workers(Vec::new());
    for rank in 0..launch.processes {
        let place = Place {
            rank,
            local_rank: rank,
            world: launch.processes,
            local_world: Some(launch.processes),
            address: Ipv4Addr::LOCALHOST.to_string(),
            port,
            job: job.clone(),
        };
        workers.0.push(start(launch, &place)?);
    }
    workers.wait(launch);
    workers.verdict(launch.stop.load(Ordering::Relaxed))
}

/// A port that is free now. Not one that the system gives to outgoing connections: a process that
/// calls before rank 0 listens might be connected to itself.
fn free_port(start: usize) -> Result<u16> {
    const FROM: usize = 15_000;
    const COUNT: usize = 15_000;
    let tried = (0..500).map(|i| (FROM + (start + i * 7) % COUNT) as u16);
    let mut free = tried.filter(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    free.next().ok_or_else(|| Error::Parallel("no free port on this host".into()))
}

fn start(launch: &Launch, place: &Place) -> Result<Worker> {
    let mut command = Command::new(&launch.program);
    command
        .args(&launch.arguments)
        .envs(place.variables())
        .env(LAUNCHED, "1")
        .stdin(Stdio::piped());
    if place.rank > 0 {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
    }
    let mut child = command.spawn().map_err(|error| {
        let program = launch.program.display();
        Error::Parallel(format!("cannot start {program} as rank {}: {error}", place.rank))
    })?;
    let said = child.stderr.take().map(|mut stderr| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was read before an error is all there is to tell.
            drop(stderr.read_to_end(&mut bytes));
            String::from_utf8_lossy(&bytes).into_owned()
        })
    });
    Ok(Worker { child, said, ended: None, late: false })
}

/// Ends what still runs when it is dropped.
struct Workers(Vec<Worker>);

impl Workers {
    fn wait(&mut self, launch: &Launch) {
        let (mut told, mut failed) = (false, None);
        while self.0.iter().any(|worker| worker.ended.is_none()) {
            for worker in &mut self.0 {
                if worker.ended.is_none() {
                    worker.ended = worker.child.try_wait().ok().flatten();
                }
            }
            if launch.stop.load(Ordering::Relaxed) && !told {
                told = true;
                for stdin in self.0.iter_mut().filter_map(|worker| worker.child.stdin.as_mut()) {
                    // One that has ended needs no telling.
                    drop(stdin.write_all(b"\n").and_then(|()| stdin.flush()));
                }
            }
            // One that was stopped does not wait for rank 0, which saves.
            let fine = |status: ExitStatus| {
                status.success() || status.code() == Some(i32::from(INTERRUPTED))
            };
            let mut ended = self.0.iter().filter_map(|worker| worker.ended);
            if failed.is_none() && !ended.all(fine) {
                failed = Some(Instant::now());
            }
            if failed.is_some_and(|since| since.elapsed() > launch.grace) {
                return self.end();
            }
            sleep(Duration::from_millis(20));
        }
    }

    fn end(&mut self) {
        for worker in self.0.iter_mut().filter(|worker| worker.ended.is_none()) {
            // It may have ended meanwhile.
            worker.late = worker.child.kill().is_ok();
            worker.ended = worker.child.wait().ok();
        }
    }

    /// The one cause, of all that have ended; some perhaps by the signal that `stopped` all, before
    /// they listened for it.
    fn verdict(&mut self, stopped: bool) -> Result<Ended> {
        let statuses: Vec<_> = self.0.iter().map(|worker| worker.ended).collect();
        let code = |status: &Option<ExitStatus>| status.and_then(|status| status.code());
        let ended =
            |wanted: u8| move |status: &Option<ExitStatus>| code(status) == Some(i32::from(wanted));
        if statuses.iter().all(ended(0)) {
            return Ok(Ended::Well);
        }
        let innocent = |status: &Option<ExitStatus>| {
            let quiet = [0, LOST, INTERRUPTED].iter().any(|&wanted| ended(wanted)(status));
            quiet || (stopped && code(status).is_none())
        };
        let guilty = |(worker, status): (&Worker, &_)| !worker.late && !innocent(status);
        let Some(rank) = self.0.iter().zip(&statuses).position(guilty) else {
            if stopped || statuses.iter().any(ended(INTERRUPTED)) {
                return Ok(Ended::Stopped);
            }
            return Err(Error::Parallel("the processes have lost each other".into()));
        };
        let said = self.0[rank].said.take().and_then(|said| said.join().ok()).unwrap_or_default();
        let last = said.lines().rfind(|line| line.starts_with("error: "));
        match (rank, last, code(&statuses[rank])) {
            (0, _, Some(1)) => Ok(Ended::Told),
            (_, Some(line), _) => {
                Err(Error::Parallel(format!("rank {rank}: {}", line.trim_start_matches("error: "))))
            }
            (_, None, _) => {
                let how =
                    statuses[rank].map_or("in an unknown way".into(), |status| status.to_string());
                let said = said.trim();
                let said =
                    if said.is_empty() { String::new() } else { format!("; it said: {said}") };
                Err(Error::Parallel(format!(
                    "rank {rank} has ended ({how}), and the others have stopped{said}; what was saved \
                     before is kept, run the same command again to go on from there"
                )))
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// Runs a shell script as each rank.
    fn run(processes: usize, script: &str, stop: bool) -> Result<Ended> {
        launch(&Launch {
            processes,
            program: "sh".into(),
            arguments: ["-c", script].map(OsString::from).to_vec(),
            stop: Arc::new(AtomicBool::new(stop)),
            grace: Duration::from_millis(300),
        })
    }

    #[test]
    fn each_process_is_told_its_place() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().display();
        let script = format!("echo $LOCAL_RANK/$WORLD_SIZE/$MASTER_ADDR > {folder}/$RANK");
        assert_eq!(run(3, &script, false).unwrap(), Ended::Well);
        for rank in 0..3 {
            let text = std::fs::read_to_string(root.path().join(rank.to_string())).unwrap();
            assert_eq!(text, format!("{rank}/3/127.0.0.1\n"));
        }
    }

    #[test]
    fn the_one_cause_is_told() {
        let said = |script: &str| run(3, script, false).unwrap_err().to_string();
        // Rank 2 fails, the others notice; one never ends by itself.
        let script = "case $RANK in 2) echo 'error: no disk' >&2; exit 1;; 0) exit 75;; *) exec sleep 600;; esac";
        assert_eq!(said(script), "rank 2: no disk");
        let killed = said("[ $RANK = 1 ] && kill -9 $$; exit 75");
        assert!(
            killed.starts_with("rank 1 has ended (signal: 9") && killed.contains("kept"),
            "{killed}"
        );
        let panicked = said("[ $RANK = 1 ] && { echo oh >&2; exit 101; }; exit 75");
        assert!(
            panicked.contains("exit status: 101") && panicked.contains("it said: oh"),
            "{panicked}"
        );
        assert_eq!(run(2, "exit 1", false).unwrap(), Ended::Told);
        assert!(said("exit 75").contains("lost each other"));
    }

    #[test]
    fn a_stop_reaches_all() {
        assert_eq!(run(2, "read line && exit 130", true).unwrap(), Ended::Stopped);
    }
}
