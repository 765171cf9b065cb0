use std::net::TcpListener;
use std::thread::scope;

use super::*;
use crate::parallel::place::Place;
use crate::parallel::rendezvous::connect;

const PATIENCE: Duration = Duration::from_secs(60);

fn place(rank: usize, world: usize, port: u16) -> Place {
    let address = "127.0.0.1".to_owned();
    Place { rank, local_rank: rank, world, local_world: None, address, port, job: "test".into() }
}

/// A port that was free a moment ago.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Runs `f` as each rank on a thread of its own, with links whose timeout is `timeout`.
fn ranks<R: Send>(
    world: usize,
    timeout: Duration,
    f: impl Fn(usize, [Link; 3]) -> R + Sync,
) -> Vec<R> {
    let port = port();
    scope(|scope| {
        let run = |rank| {
            let f = &f;
            scope.spawn(move || {
                f(rank, connect(&place(rank, world, port), PATIENCE, timeout).unwrap())
            })
        };
        let threads: Vec<_> = (0..world).map(run).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn sums_are_taken_in_the_order_of_the_ranks() {
    // In any other order these sums differ in their last bits.
    let value = |rank: usize| [1e16, 1.0, -1e16, 0.3][rank];
    let expected = ((1e16 + 1.0) + -1e16) + 0.3;
    let sums = ranks(4, PATIENCE, |rank, [mut link, mut other, _]| {
        // Rank 3 comes first, rank 1 last.
        std::thread::sleep(Duration::from_millis([30, 60, 20, 0][rank]));
        let mut wide = [value(rank), rank as f64];
        link.sum(&mut wide).unwrap();
        let mut many = vec![rank as f32 + 0.5; 100_000];
        other.sum(&mut many).unwrap();
        assert!(many.iter().all(|&sum| sum == 8.0), "0.5 + 1.5 + 2.5 + 3.5");
        wide
    });
    assert_eq!(sums, vec![[expected, 6.0]; 4]);
}

#[test]
fn bytes_come_from_all_and_go_to_all() {
    let all = ranks(3, PATIENCE, |rank, [mut link, ..]| {
        let gathered = link.gather(vec![rank as u8; rank]).unwrap();
        let told = link.broadcast(vec![7, rank as u8]).unwrap();
        (gathered, told)
    });
    assert_eq!(all[0].0, [vec![], vec![1], vec![2, 2]]);
    assert!(all[1].0.is_empty());
    assert!(all.iter().all(|(_, told)| told == &[7, 0]), "{all:?}");
}

#[test]
fn who_is_gone_silent_or_out_of_step_is_named() {
    let said = ranks(3, Duration::from_millis(300), |rank, [mut gone, mut silent, mut astray]| {
        let mut value = [1.0f64];
        if rank == 2 {
            drop(gone);
            std::thread::sleep(Duration::from_millis(1500));
            // A broadcast where the others sum.
            drop(astray.gather(Vec::new()));
            return Vec::new();
        }
        if rank == 1 {
            // It is never late, though nobody answers.
            scope(|scope| {
                for link in [&mut gone, &mut silent, &mut astray] {
                    scope.spawn(|| drop(link.sum(&mut [1.0f64])));
                }
            });
            return Vec::new();
        }
        let first = gone.sum(&mut value).unwrap_err();
        let second = silent.sum(&mut value).unwrap_err();
        std::thread::sleep(Duration::from_millis(1500));
        let third = astray.sum(&mut value).unwrap_err();
        [first, second, third].map(|error| error.to_string()).to_vec()
    });
    assert_eq!(said[0][0], "rank 2 is gone: its process has ended");
    assert_eq!(said[0][1], "rank 2 has sent nothing for 0.3 s");
    assert!(said[0][2].starts_with("rank 2 computes something else"), "{:?}", said[0]);
}

#[test]
fn a_failure_is_told_to_all_with_its_reason() {
    let said = ranks(3, PATIENCE, |rank, [mut control, mut sums, _]| match rank {
        1 => {
            control.fail(1, "has failed: no disk");
            String::new()
        }
        // Rank 0 waits elsewhere, finds rank 1 gone, and asks why; then tells the others.
        0 => {
            let error = sums.sum(&mut [1.0f32]).unwrap_err();
            assert_eq!(error.to_string(), "rank 1 is gone: its process has ended");
            let reason = control.reason(1).expect("it said why");
            control.fail(1, "has failed: no disk");
            reason.to_string()
        }
        _ => control.sum(&mut [1.0f64]).unwrap_err().to_string(),
    });
    assert_eq!(said[0], "rank 1 has failed: no disk");
    assert_eq!(said[2], "rank 1 has failed: no disk");
}

#[test]
fn who_does_not_come_is_named() {
    let port = port();
    let short = Duration::from_millis(200);
    let said =
        |place: Place| connect(&place, short, short).err().expect("nobody comes").to_string();
    assert_eq!(said(place(0, 4, port)), "rank 1 did not come within 0.2 s, nor did 2, 3");
    let absent = said(place(1, 2, port));
    assert!(
        absent.starts_with(&format!("rank 0 did not answer at 127.0.0.1:{port} within 0.2 s")),
        "{absent}"
    );
}

#[test]
fn strangers_are_not_let_in() {
    let port = port();
    scope(|scope| {
        let root = scope.spawn(|| connect(&place(0, 2, port), PATIENCE, PATIENCE));
        let called =
            |place: Place| connect(&place, PATIENCE, PATIENCE).err().expect("refused").to_string();
        let other = called(Place { job: "another".into(), ..place(1, 2, port) });
        assert!(other.contains("another launch"), "{other}");
        let world = called(place(1, 3, port));
        assert!(world.contains("WORLD_SIZE 2, this process 3"), "{world}");
        let rank = called(Place { rank: 5, ..place(1, 2, port) });
        assert!(rank.contains("same RANK"), "{rank}");
        // A browser, say; and one that says nothing.
        let mut stranger = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let _silent = TcpStream::connect(("127.0.0.1", port)).unwrap();
        connect(&place(1, 2, port), PATIENCE, PATIENCE).unwrap();
        root.join().unwrap().unwrap();
    });
}
