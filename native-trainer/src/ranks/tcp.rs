//! Ranks that are processes connected by TCP. Rank 0 receives the data of the others and sends all of it to each.
//!
//! That is enough for CPUs, and for exchanging a few numbers and NCCL's identifier. Tensors on GPUs go through NCCL.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use paddock_engine::{Error, Result};

use super::greeting::{Greeting, Identity};
use super::meeting::{Patience, come, gather};
use super::{HostRanks, RankAddress};

/// Largest message. A greater length cannot come from a rank.
const LIMIT: u64 = 1 << 40;
/// The length that says no more than that a rank is alive.
const ALIVE: u64 = u64::MAX;

/// How a rank learns that another has stopped: whoever lives says so at every beat.
#[derive(Debug, Clone, Copy)]
struct Pulse {
    beat: Duration,
    /// Beats without a word after which a rank is said to be silent.
    notice: u32,
    /// Beats without a word after which it counts as ended.
    end: u32,
}

impl Pulse {
    const DEFAULT: Self = Self { beat: Duration::from_secs(2), notice: 5, end: 60 };
}

/// What is told and done while ranks wait for each other. Called from other threads, too.
#[derive(Debug, Clone, Copy)]
pub struct Watch {
    /// Shows a note to the user.
    pub note: fn(&str),
    /// Called when a rank has been silent for too long. Calls that wait for it through TCP fail by themselves; those that
    /// wait for its GPU do not.
    pub silent: fn(&str),
}

/// One of the ranks.
#[derive(Debug)]
pub struct Tcp {
    rank: usize,
    world_size: usize,
    /// On rank 0 ranks 1, 2, …; on other ranks rank 0.
    peers: Mutex<Vec<Inbox>>,
}

/// Another rank, and what it has sent.
#[derive(Debug)]
struct Inbox {
    peer: Arc<Peer>,
    received: Receiver<Vec<u8>>,
}

#[derive(Debug)]
struct Peer {
    rank: usize,
    stream: TcpStream,
    /// Held while a message is written.
    writing: Mutex<()>,
    /// It has said something since the last beat.
    heard: AtomicBool,
    /// Its connection has ended.
    ended: AtomicBool,
    /// It has been silent for too long.
    silent: AtomicBool,
}

impl Tcp {
    /// Meets the other ranks: rank 0 listens, the others come to it. All must be of one `identity`.
    ///
    /// # Errors
    /// When a rank does not come in time, or is not like the others; every rank gets the same sentence then.
    pub fn join(address: &RankAddress, identity: &Identity, watch: Watch) -> Result<Self> {
        Self::meet(address, identity, watch, Patience::DEFAULT, Pulse::DEFAULT)
    }

    fn meet(
        address: &RankAddress,
        identity: &Identity,
        watch: Watch,
        patience: Patience,
        pulse: Pulse,
    ) -> Result<Self> {
        let greeting = Greeting::new(address, identity);
        let streams = match address.rank {
            0 => gather(address, &greeting, patience, watch.note),
            _ => come(address, &greeting, patience, watch.note).map(|stream| vec![stream]),
        };
        let streams = streams.map_err(Error::Request)?;
        let first = usize::from(address.rank == 0);
        let peers = streams.into_iter().enumerate().map(|(place, stream)| Inbox::open(first + place, stream));
        let peers = peers.collect::<std::io::Result<Vec<_>>>();
        let peers = peers.map_err(|error| Error::Request(format!("the ranks' connections cannot be used: {error}")))?;
        let watched = peers.iter().map(|inbox| Arc::downgrade(&inbox.peer)).collect();
        std::thread::spawn(move || keep_watch(watched, watch, pulse));
        Ok(Self { rank: address.rank, world_size: address.world_size, peers: Mutex::new(peers) })
    }

    /// Concatenates the bytes of all ranks, on every rank. All must pass the same number of bytes.
    ///
    /// # Errors
    /// When a rank has ended.
    fn all_bytes(&self, mine: &[u8]) -> Result<Vec<u8>> {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if self.rank > 0 {
            peers[0].send(mine)?;
            return peers[0].receive();
        }
        let mut all = mine.to_vec();
        for peer in peers.iter() {
            all.extend(peer.receive()?);
        }
        for peer in peers.iter() {
            peer.send(&all)?;
        }
        Ok(all)
    }
}

impl Inbox {
    /// Begins to receive from a rank.
    fn open(rank: usize, stream: TcpStream) -> std::io::Result<Self> {
        let reader = stream.try_clone()?;
        let peer = Peer {
            rank,
            stream,
            writing: Mutex::new(()),
            heard: AtomicBool::new(true),
            ended: AtomicBool::new(false),
            silent: AtomicBool::new(false),
        };
        let peer = Arc::new(peer);
        let (sender, received) = mpsc::channel();
        let heard = Arc::downgrade(&peer);
        std::thread::spawn(move || read(reader, &heard, &sender));
        Ok(Self { peer, received })
    }

    fn receive(&self) -> Result<Vec<u8>> {
        // The reader ends when its connection does.
        self.received.recv().map_err(|_| self.peer.gone())
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        let _writing = self.peer.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stream = &self.peer.stream;
        let sent = stream.write_all(&(bytes.len() as u64).to_le_bytes()).and_then(|()| stream.write_all(bytes));
        sent.map_err(|_| self.peer.gone())
    }
}

impl Peer {
    fn gone(&self) -> Error {
        let problem = match self.silent.load(Ordering::SeqCst) {
            true => {
                "it has been silent for too long; see whether its process is stopped or its machine is gone, and \
                     continue with --resume"
            }
            false => "it has ended; see its error, and continue with --resume",
        };
        Error::Device { device: format!("rank {}", self.rank), problem: problem.to_string() }
    }

    /// Says that this process lives. Whoever is just sending something says so by that.
    fn beat(&self) {
        if let Ok(_writing) = self.writing.try_lock() {
            let _ = (&self.stream).write_all(&ALIVE.to_le_bytes());
        }
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        // What was sent still arrives; the other rank then sees the end.
        for inbox in self.peers.get_mut().unwrap_or_else(PoisonError::into_inner) {
            let _ = inbox.peer.stream.shutdown(Shutdown::Write);
        }
    }
}

/// Passes on what a rank sends until its connection ends.
fn read(mut stream: TcpStream, peer: &Weak<Peer>, sender: &Sender<Vec<u8>>) {
    let mut next = || -> std::io::Result<Option<Vec<u8>>> {
        let mut length = [0; 8];
        stream.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        if length == ALIVE {
            return Ok(None);
        }
        if length > LIMIT {
            return Err(std::io::Error::other("the message is too long"));
        }
        let mut bytes = Vec::new();
        let mut chunk = (&mut stream).take(length);
        while (bytes.len() as u64) < length {
            let read = chunk.by_ref().take(1 << 22).read_to_end(&mut bytes)?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(peer) = peer.upgrade() {
                peer.heard.store(true, Ordering::SeqCst);
            }
        }
        Ok(Some(bytes))
    };
    while let Ok(message) = next() {
        let Some(peer) = peer.upgrade() else { return };
        peer.heard.store(true, Ordering::SeqCst);
        if let Some(message) = message
            && sender.send(message).is_err()
        {
            return;
        }
    }
    if let Some(peer) = peer.upgrade() {
        peer.ended.store(true, Ordering::SeqCst);
    }
}

/// Tells the other ranks that this one lives, and this one's user which of them do not, until the ranks part. A process
/// that was itself stopped finds one beat missed at most, however long it was.
fn keep_watch(peers: Vec<Weak<Peer>>, watch: Watch, pulse: Pulse) {
    let mut missed = vec![0; peers.len()];
    loop {
        std::thread::sleep(pulse.beat);
        for (peer, missed) in peers.iter().zip(&mut missed) {
            let Some(peer) = peer.upgrade() else { return };
            if peer.ended.load(Ordering::SeqCst) {
                continue;
            }
            peer.beat();
            *missed = if peer.heard.swap(false, Ordering::SeqCst) { 0 } else { *missed + 1 };
            let seconds = (pulse.beat * *missed).as_secs();
            if *missed == pulse.notice {
                (watch.note)(&format!("waiting for rank {}, which has been silent for {seconds} s", peer.rank));
            }
            if *missed == pulse.end {
                peer.silent.store(true, Ordering::SeqCst);
                // Ends the calls that wait for it.
                let _ = peer.stream.shutdown(Shutdown::Both);
                (watch.silent)(&peer.gone().to_string());
            }
        }
    }
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
mod tests;
