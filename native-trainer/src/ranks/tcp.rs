//! Ranks that are processes connected by TCP. Rank 0 receives the data of the others and sends all of it to each.
//!
//! That is enough for CPUs, and for exchanging a few numbers and NCCL's identifier. Tensors on GPUs go through NCCL.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use paddock_engine::{Error, Result};

use super::{HostRanks, RankAddress};

/// How long ranks wait for each other at the start; some may still be loading.
const PATIENCE: Duration = Duration::from_secs(600);
/// Largest message. A greater length cannot come from a rank.
const LIMIT: u64 = 1 << 40;
/// Begins every connection, so that other programs that connect to the port are noticed.
const GREETING: [u8; 8] = *b"paddock1";

/// One of the ranks.
#[derive(Debug)]
pub struct Tcp {
    rank: usize,
    world_size: usize,
    /// On rank 0 the connections to ranks 1, 2, …; on other ranks the one to rank 0.
    peers: Mutex<Vec<TcpStream>>,
}

impl Tcp {
    /// Connects to the other ranks: rank 0 listens, the others connect to it.
    ///
    /// # Errors
    /// When a rank does not connect in time.
    pub fn join(place: &RankAddress) -> Result<Self> {
        let failed = |problem: String| Error::Device { device: format!("rank {}", place.rank), problem };
        let peers = if place.rank == 0 {
            let listener = TcpListener::bind(&place.master)
                .map_err(|error| failed(format!("cannot listen on {}: {error}", place.master)))?;
            accept(&listener, place.world_size).map_err(failed)?
        } else {
            vec![call(place).map_err(failed)?]
        };
        Ok(Self { rank: place.rank, world_size: place.world_size, peers: Mutex::new(peers) })
    }

    /// Concatenates the bytes of all ranks, on every rank. All must pass the same number of bytes.
    ///
    /// # Errors
    /// When a rank has ended.
    fn all_bytes(&self, mine: &[u8]) -> Result<Vec<u8>> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = |rank: usize| {
            move |_| Error::Device {
                device: format!("rank {rank}"),
                problem: "it has ended; see its error, and continue with --resume".to_string(),
            }
        };
        if self.rank > 0 {
            let hub = &mut peers[0];
            send(hub, mine).map_err(gone(0))?;
            return receive(hub).map_err(gone(0));
        }
        let mut all = mine.to_vec();
        for (index, peer) in peers.iter_mut().enumerate() {
            all.extend(receive(peer).map_err(gone(index + 1))?);
        }
        for (index, peer) in peers.iter_mut().enumerate() {
            send(peer, &all).map_err(gone(index + 1))?;
        }
        Ok(all)
    }
}

fn accept(listener: &TcpListener, world_size: usize) -> Result<Vec<TcpStream>, String> {
    listener.set_nonblocking(true).map_err(|error| error.to_string())?;
    let mut peers: Vec<Option<TcpStream>> = (1..world_size).map(|_| None).collect();
    let start = Instant::now();
    while let Some(missing) = peers.iter().position(Option::is_none) {
        match listener.accept() {
            Ok((mut stream, _)) => {
                let mut hello = [0; 16];
                let greeted = stream
                    .set_nonblocking(false)
                    .and_then(|()| stream.set_read_timeout(Some(Duration::from_secs(10))))
                    .and_then(|()| stream.read_exact(&mut hello))
                    .and_then(|()| stream.set_read_timeout(None))
                    .and_then(|()| stream.set_nodelay(true));
                let (greeting, rank) = hello.split_at(8);
                let rank = u64::from_le_bytes(rank.try_into().unwrap_or_default()) as usize;
                // Drop connections that do not send our greeting.
                if greeted.is_ok()
                    && *greeting == GREETING
                    && let Some(place @ None) = rank.checked_sub(1).and_then(|place| peers.get_mut(place))
                {
                    *place = Some(stream);
                }
            }
            Err(_) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(format!("rank {} did not connect: {error}", missing + 1)),
        }
    }
    Ok(peers.into_iter().flatten().collect())
}

fn call(place: &RankAddress) -> Result<TcpStream, String> {
    let start = Instant::now();
    loop {
        let greeting = [GREETING, (place.rank as u64).to_le_bytes()].concat();
        let called = TcpStream::connect(&place.master).and_then(|mut stream| {
            stream.set_nodelay(true)?;
            stream.write_all(&greeting)?;
            Ok(stream)
        });
        match called {
            Ok(stream) => return Ok(stream),
            Err(_) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => return Err(format!("cannot reach rank 0 at {}: {error}", place.master)),
        }
    }
}

fn send(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(&(bytes.len() as u64).to_le_bytes())?;
    stream.write_all(bytes)
}

fn receive(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > LIMIT {
        return Err(std::io::Error::other("the message is too long"));
    }
    let mut bytes = Vec::new();
    stream.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

impl HostRanks for Tcp {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world_size(&self) -> usize {
        self.world_size
    }

    fn exchange(&self, mine: &[u8]) -> Result<Vec<u8>> {
        self.all_bytes(mine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(world_size: usize) -> Vec<RankAddress> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let place = |rank| RankAddress { rank, world_size, local_rank: rank, master: format!("127.0.0.1:{port}") };
        (0..world_size).map(place).collect()
    }

    #[test]
    fn ranks_exchange_and_a_stranger_does_no_harm() {
        let places = places(3);
        let master = places[0].master.clone();
        let stranger = std::thread::spawn(move || {
            while TcpStream::connect(&master)
                .and_then(|mut stream| stream.write_all(b"GET / HTTP/1.1\r\n\r\n"))
                .is_err()
            {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        stranger_first(stranger, places);
    }

    fn stranger_first(stranger: std::thread::JoinHandle<()>, places: Vec<RankAddress>) {
        let ranks: Vec<_> = places
            .into_iter()
            .map(|place| {
                std::thread::spawn(move || {
                    let rank = Tcp::join(&place).unwrap();
                    for call in 0..20 {
                        let all = rank.gather_values(&[call as f32, place.rank as f32]).unwrap();
                        assert_eq!(all, [call as f32, 0.0, call as f32, 1.0, call as f32, 2.0]);
                        let mut sums = [1.5, place.rank as f64];
                        rank.sum_values(&mut sums).unwrap();
                        assert_eq!(sums, [4.5, 3.0]);
                    }
                })
            })
            .collect();
        stranger.join().unwrap();
        ranks.into_iter().for_each(|rank| rank.join().unwrap());
    }

    #[test]
    fn a_rank_that_ends_is_named() {
        let [first, second] = <[RankAddress; 2]>::try_from(places(2)).unwrap();
        let other = std::thread::spawn(move || drop(Tcp::join(&second).unwrap()));
        let rank = Tcp::join(&first).unwrap();
        other.join().unwrap();
        let error = rank.gather_values(&[1.0]).unwrap_err().to_string();
        assert!(error.contains("rank 1") && error.contains("--resume"), "{error}");
    }
}
