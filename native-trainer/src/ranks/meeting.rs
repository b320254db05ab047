//! How ranks come together: rank 0 listens, the others greet it, and it tells all of them whether they fit.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::RankAddress;
use super::greeting::{Greeting, MAGIC, read_text, write_text};

/// How long ranks wait for each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Until they say first what they wait for.
    pub notice: Duration,
    /// Between saying it again.
    pub again: Duration,
    /// Until they give up.
    pub whole: Duration,
}

impl Patience {
    /// As long as PyTorch's store waits.
    pub const DEFAULT: Self =
        Self { notice: Duration::from_secs(5), again: Duration::from_secs(30), whole: Duration::from_secs(300) };
}

/// How long a program that has connected may take to greet.
const GREETING_TIME: Duration = Duration::from_secs(2);
/// How long rank 0 may take to answer, which greets others before.
const ANSWER_TIME: Duration = Duration::from_secs(20);
/// How long rank 0 waits for those who are to hear that the ranks do not fit.
const REFUSAL_TIME: Duration = Duration::from_secs(3);
/// How long connecting may take.
const CONNECTING_TIME: Duration = Duration::from_secs(5);
/// How long it may take at ports beside the first.
const FURTHER_TIME: Duration = Duration::from_secs(1);

/// Says again and again what is waited for.
struct Notices {
    began: Instant,
    next: Duration,
    patience: Patience,
    note: fn(&str),
}

impl Notices {
    fn new(patience: Patience, note: fn(&str)) -> Self {
        Self { began: Instant::now(), next: patience.notice, patience, note }
    }

    /// Says it where it is time to. False when it is time to give up.
    fn go_on(&mut self, what: impl FnOnce() -> String) -> bool {
        let waited = self.began.elapsed();
        if waited >= self.next {
            self.next = waited + self.patience.again;
            (self.note)(&format!("waiting for {}", what()));
        }
        waited < self.patience.whole
    }
}

/// Rank 0's part: waits for all others. Gives their connections in their order.
pub(super) fn gather(
    address: &RankAddress,
    own: &Greeting,
    patience: Patience,
    note: fn(&str),
) -> Result<Vec<TcpStream>, String> {
    let listener = listen(address)?;
    let port = listener.local_addr().map_or(*address.ports.start(), |address| address.port());
    listener.set_nonblocking(true).map_err(|error| error.to_string())?;
    let mut guests: Vec<Option<TcpStream>> = (1..own.world_size).map(|_| None).collect();
    let mut notices = Notices::new(patience, note);
    let (mut turned_away, mut started) = (0, own.world_size);
    let mut refusal: Option<(String, Instant)> = None;
    let verdict = loop {
        let missing: Vec<String> = guests
            .iter()
            .enumerate()
            .filter(|(_, guest)| guest.is_none())
            .map(|(place, _)| (place + 1).to_string())
            .collect();
        if let Some((sentence, since)) = &refusal
            && (since.elapsed() > REFUSAL_TIME || 1 + guests.iter().flatten().count() + turned_away >= started)
        {
            break Err(sentence.clone());
        }
        if missing.is_empty() {
            break Ok(());
        }
        match listener.accept() {
            Ok((mut stream, _)) => {
                let Some(greeting) = received(&mut stream).filter(|greeting| greeting.run == own.run) else { continue };
                if let Some(reason) = greeting.refusal(own) {
                    let (sentence, _) = refusal.get_or_insert_with(|| (reason, Instant::now()));
                    let _ = write_text(&mut stream, sentence);
                    turned_away += 1;
                    started = started.max(greeting.world_size);
                } else if let Some(place) = greeting.rank.checked_sub(1).and_then(|place| guests.get_mut(place))
                    && place.as_ref().is_none_or(has_left)
                {
                    *place = Some(stream);
                } else {
                    let rank = greeting.rank;
                    let _ =
                        write_text(&mut stream, &format!("there is a rank {rank} already; number the ranks from 0"));
                }
            }
            Err(_) => {
                let who = || format!("rank {} at {}:{port}", missing.join(", "), address.host);
                if !notices.go_on(who) {
                    let seconds = patience.whole.as_secs();
                    break Err(format!(
                        "rank {} did not come to {}:{port} within {seconds} s; see whether it was started, and whether \
                         it can reach this machine",
                        missing.join(", "),
                        address.host
                    ));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    };
    let text = verdict.as_ref().err().map_or("", String::as_str);
    for guest in guests.iter_mut().flatten() {
        let told = write_text(guest, text);
        if verdict.is_ok() {
            told.map_err(|error| format!("a rank has ended before the first step: {error}"))?;
        }
    }
    verdict.map(|()| guests.into_iter().flatten().collect())
}

/// True when a rank that greeted has gone since; it may come again.
fn has_left(guest: &TcpStream) -> bool {
    // Until it is told that all fit, a rank says nothing.
    let silent = guest.set_nonblocking(true).and_then(|()| guest.peek(&mut [0]));
    let _ = guest.set_nonblocking(false);
    !silent.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Listens on the first of the ports that is free.
fn listen(address: &RankAddress) -> Result<TcpListener, String> {
    let mut problem = String::new();
    for port in address.ports.clone() {
        match listen_on(&address.host, port) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == ErrorKind::AddrInUse => problem = error.to_string(),
            Err(error) => return Err(format!("cannot listen on {}:{port}: {error}", address.host)),
        }
    }
    let (first, last) = (address.ports.start(), address.ports.end());
    Err(format!(
        "cannot listen on any port of {}:{first}-{last}: {problem}; set MASTER_PORT to a free one",
        address.host
    ))
}

/// Listens at the host's own address, or at all of the machine's where it has that one only from outside, or under a name
/// that means the machine itself.
fn listen_on(host: &str, port: u16) -> std::io::Result<TcpListener> {
    let is_local = |address: &SocketAddr| address.ip().is_loopback();
    let named: Vec<SocketAddr> = (host, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    let stays_inside = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if stays_inside || !named.iter().any(is_local) && !named.is_empty() {
        match TcpListener::bind(named.as_slice()) {
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {}
            bound => return bound,
        }
    }
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).or_else(|error| match error.kind() {
        ErrorKind::AddrInUse => Err(error),
        _ => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)),
    })
}

/// What a program that has connected says, if it is a rank.
fn received(stream: &mut TcpStream) -> Option<Greeting> {
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(GREETING_TIME)).ok()?;
    stream.set_nodelay(true).ok()?;
    let mut magic = [0; 8];
    stream.read_exact(&mut magic).ok()?;
    if magic != MAGIC {
        return None;
    }
    let greeting: Greeting = serde_json::from_str(&read_text(stream).ok()?).ok()?;
    stream.write_all(&MAGIC).ok()?;
    stream.set_read_timeout(None).ok()?;
    Some(greeting)
}

/// The part of all others: finds rank 0, greets it, and waits for what it says.
pub(super) fn come(
    address: &RankAddress,
    own: &Greeting,
    patience: Patience,
    note: fn(&str),
) -> Result<TcpStream, String> {
    let greeting = serde_json::to_string(own).map_err(|error| error.to_string())?;
    let mut notices = Notices::new(patience, note);
    let mut pause = Duration::from_millis(20);
    loop {
        let mut problem = String::new();
        for port in address.ports.clone() {
            let time = if port == *address.ports.start() { CONNECTING_TIME } else { FURTHER_TIME };
            match greeted(&address.host, port, time, &greeting) {
                Ok(stream) => return heard(stream, patience),
                Err(error) if problem.is_empty() => problem = error.to_string(),
                Err(_) => {}
            }
        }
        if !notices.go_on(|| format!("rank 0 at {}", address.master())) {
            return Err(format!("cannot reach rank 0 at {}: {problem}", address.master()));
        }
        std::thread::sleep(pause);
        // What else listens at these ports is not to be called fifty times a second.
        pause = (2 * pause).min(Duration::from_secs(1));
    }
}

/// A connection to the rank 0 that listens there and knows this run.
fn greeted(host: &str, port: u16, time: Duration, greeting: &str) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, time) {
            Ok(mut stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(ANSWER_TIME))?;
                stream.write_all(&MAGIC)?;
                write_text(&mut stream, greeting)?;
                let mut magic = [0; 8];
                let answered = stream.read_exact(&mut magic);
                if answered.is_ok() && magic == MAGIC {
                    return Ok(stream);
                }
                last = std::io::Error::other("another program listens there");
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The connection, if rank 0 finds that all ranks fit.
fn heard(mut stream: TcpStream, patience: Patience) -> Result<TcpStream, String> {
    let ended = |error: std::io::Error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "rank 0 does not answer".to_string(),
        _ => "rank 0 has ended; see its error".to_string(),
    };
    stream.set_read_timeout(Some(patience.whole + ANSWER_TIME)).map_err(ended)?;
    let verdict = read_text(&mut stream).map_err(ended)?;
    stream.set_read_timeout(None).map_err(ended)?;
    if verdict.is_empty() { Ok(stream) } else { Err(verdict) }
}
