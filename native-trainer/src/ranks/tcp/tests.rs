use std::net::TcpListener;
use std::thread::JoinHandle;

use super::*;

const QUICK: Patience =
    Patience { notice: Duration::from_millis(1), again: Duration::from_millis(1), whole: Duration::from_millis(50) };

fn quiet() -> Watch {
    Watch { note: |_| {}, silent: |_| {} }
}

fn places(world_size: usize) -> Vec<RankAddress> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let place = |rank| RankAddress {
        rank,
        world_size,
        local_rank: rank,
        host: "127.0.0.1".to_string(),
        ports: port..=port.saturating_add(2),
        run: "test".to_string(),
    };
    (0..world_size).map(place).collect()
}

fn join(place: &RankAddress) -> Result<Tcp> {
    Tcp::join(place, &Identity::default(), quiet())
}

#[test]
fn ranks_exchange_and_a_stranger_does_no_harm() {
    let places = places(3);
    let master = places[0].master();
    let stranger = std::thread::spawn(move || {
        let greet = |mut stream: TcpStream| stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
        while TcpStream::connect(&master).and_then(greet).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    exchange(places);
    stranger.join().unwrap();
}

fn exchange(places: Vec<RankAddress>) {
    let calls = |place: RankAddress| {
        let rank = join(&place).unwrap();
        for call in 0..20 {
            let all = rank.gather_values(&[call as f32, place.rank as f32]).unwrap();
            assert_eq!(all, [call as f32, 0.0, call as f32, 1.0, call as f32, 2.0]);
            let mut sums = [1.5, place.rank as f64];
            rank.sum_values(&mut sums).unwrap();
            assert_eq!(sums, [4.5, 3.0]);
        }
    };
    let ranks: Vec<_> = places.into_iter().map(|place| std::thread::spawn(move || calls(place))).collect();
    ranks.into_iter().for_each(|rank| rank.join().unwrap());
}

/// As torchrun's agent does, which listens on MASTER_PORT itself.
#[test]
fn a_port_that_is_taken_is_passed_over() {
    let places = places(3);
    let taken = TcpListener::bind(places[0].master()).unwrap();
    // It hangs up on whoever comes.
    std::thread::spawn(move || taken.incoming().for_each(drop));
    exchange(places);
}

#[test]
fn a_rank_that_ends_is_named() {
    let [first, second] = <[RankAddress; 2]>::try_from(places(2)).unwrap();
    let other = std::thread::spawn(move || drop(join(&second).unwrap()));
    let rank = join(&first).unwrap();
    other.join().unwrap();
    let error = rank.gather_values(&[1.0]).unwrap_err().to_string();
    assert!(error.contains("rank 1") && error.contains("--resume"), "{error}");
}

#[test]
fn a_rank_that_does_not_come_is_named() {
    let places = places(2);
    for (place, words) in places.iter().zip(["rank 1 did not come to 127.0.0.1", "cannot reach rank 0 at 127.0.0.1"]) {
        let met = Tcp::meet(place, &Identity::default(), quiet(), QUICK, Pulse::DEFAULT);
        let error = met.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn ranks_that_are_not_alike_get_the_same_sentence() {
    let own = |value: &str| Identity {
        values: [("batch-size".to_string(), value.to_string())].into(),
        ..Identity::default()
    };
    let sentences = |ranks: Vec<(RankAddress, Identity)>| -> Vec<String> {
        let join = |(place, identity): (RankAddress, Identity)| -> JoinHandle<String> {
            std::thread::spawn(move || Tcp::join(&place, &identity, quiet()).unwrap_err().to_string())
        };
        let ranks: Vec<_> = ranks.into_iter().map(join).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    };
    let sizes = ["4", "4", "8"].map(own);
    for sentence in sentences(places(3).into_iter().zip(sizes).collect()) {
        assert_eq!(
            sentence,
            "rank 2 has batch-size 8, and rank 0 has batch-size 4; start all ranks with the same settings"
        );
    }
    let mut places = places(4);
    places[0].world_size = 3;
    for sentence in sentences(places.into_iter().map(|place| (place, own("4"))).collect()) {
        assert!(sentence.contains("was told of 4 ranks and rank 0 of 3"), "{sentence}");
    }
}

/// A rank that holds its connection and says nothing, as one that was stopped.
#[test]
fn a_silent_rank_is_named_and_given_up() {
    let [first, second] = <[RankAddress; 2]>::try_from(places(2)).unwrap();
    let held = std::thread::spawn(move || {
        let greeting = Greeting::new(&second, &Identity::default());
        come(&second, &greeting, Patience::DEFAULT, |_| {}).unwrap()
    });
    static HEARD: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let note = |text: &str| HEARD.lock().unwrap().push(text.to_string());
    let pulse = Pulse { beat: Duration::from_millis(1), notice: 2, end: 5 };
    let watch = Watch { note, silent: note };
    let rank = Tcp::meet(&first, &Identity::default(), watch, Patience::DEFAULT, pulse).unwrap();
    let _held = held.join().unwrap();
    let error = rank.gather_values(&[1.0]).unwrap_err().to_string();
    assert!(error.contains("rank 1") && error.contains("silent for too long"), "{error}");
    let heard = HEARD.lock().unwrap().join("\n");
    assert!(heard.contains("waiting for rank 1, which has been silent for"), "{heard}");
}
