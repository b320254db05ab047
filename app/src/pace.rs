//! Speeds of downloads and answers. Times are in seconds, on one clock with an arbitrary origin.

/// Seconds over which the speed of a download is averaged: long enough to be readable, short enough to show a change.
const SMOOTHING: f64 = 4.0;

/// The smoothed speed of a download.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DownloadPace {
    start: f64,
    last: f64,
    bytes: u64,
    rate: f64,
}

impl DownloadPace {
    /// A download that begins at `now`.
    pub fn new(now: f64) -> Self {
        Self { start: now, last: now, bytes: 0, rate: 0.0 }
    }

    /// Records that `bytes` in total have arrived by `now`.
    pub fn record(&mut self, now: f64, bytes: u64) {
        let elapsed = now - self.last;
        if elapsed <= 0.0 {
            return;
        }
        let rate = bytes.saturating_sub(self.bytes) as f64 / elapsed;
        // A download younger than that is averaged over its whole life, so that the first chunks do not promise too much.
        let weight = if now - self.start < SMOOTHING {
            elapsed / (now - self.start)
        } else {
            1.0 - (-elapsed / SMOOTHING).exp()
        };
        self.rate += weight * (rate - self.rate);
        self.last = now;
        self.bytes = bytes;
    }

    /// Bytes per second; 0 before anything has arrived.
    pub fn bytes_per_second(&self) -> f64 {
        self.rate
    }

    /// Seconds until `total` bytes have arrived at this speed; `None` while the speed is not known.
    pub fn seconds_left(&self, total: u64) -> Option<f64> {
        (self.rate > 0.0).then(|| total.saturating_sub(self.bytes) as f64 / self.rate)
    }
}

/// The times of one answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AnswerPace {
    start: f64,
    first: Option<(f64, usize)>,
    last: (f64, usize),
}

impl AnswerPace {
    /// An answer that was asked for at `now`.
    pub fn new(now: f64) -> Self {
        Self { start: now, first: None, last: (now, 0) }
    }

    /// Records that there are `tokens` in total by `now`.
    pub fn record(&mut self, now: f64, tokens: usize) {
        if tokens == 0 {
            return;
        }
        self.first.get_or_insert((now, tokens));
        self.last = (now, tokens);
    }

    /// Seconds from the question to the first token, including the reading of the prompt.
    pub fn first_token(&self) -> Option<f64> {
        self.first.map(|(time, _)| time - self.start)
    }

    /// Decoding speed: the tokens after the first round trip divided by their time. Reading the prompt does not count.
    pub fn tokens_per_second(&self) -> Option<f64> {
        let (time, tokens) = self.first?;
        let elapsed = self.last.0 - time;
        (elapsed > 0.0).then(|| (self.last.1 - tokens) as f64 / elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_download_has_its_speed_from_the_beginning() {
        let mut pace = DownloadPace::new(10.0);
        assert_eq!(pace.seconds_left(1000), None);
        for step in 1..=100 {
            pace.record(10.0 + f64::from(step) * 0.1, step as u64 * 10);
            assert!((pace.bytes_per_second() - 100.0).abs() < 1e-6, "step {step}: {}", pace.bytes_per_second());
        }
        assert!((pace.seconds_left(2000).unwrap() - 10.0).abs() < 1e-6);
        assert_eq!(pace.seconds_left(500), Some(0.0));
    }

    #[test]
    fn a_burst_moves_the_time_left_only_a_little_and_a_lasting_change_moves_it_fully() {
        let mut pace = DownloadPace::new(0.0);
        for step in 1..=10 {
            pace.record(f64::from(step), step as u64 * 100);
        }
        pace.record(10.1, 1100);
        assert!(pace.bytes_per_second() < 130.0, "ten times the speed for a tenth of a second");
        for step in 1..=40 {
            pace.record(10.1 + f64::from(step), 1100 + step as u64 * 10);
        }
        assert!((pace.bytes_per_second() - 10.0).abs() < 0.1);
    }

    #[test]
    fn a_clock_that_stands_still_changes_nothing() {
        let mut pace = DownloadPace::new(1.0);
        pace.record(1.0, 500);
        assert_eq!(pace, DownloadPace::new(1.0));
    }

    #[test]
    fn an_answer_is_timed_from_its_first_round_trip() {
        let mut pace = AnswerPace::new(1.0);
        pace.record(1.5, 0);
        assert_eq!((pace.first_token(), pace.tokens_per_second()), (None, None));
        pace.record(3.0, 4);
        assert_eq!((pace.first_token(), pace.tokens_per_second()), (Some(2.0), None));
        pace.record(5.0, 24);
        assert_eq!(pace.tokens_per_second(), Some(10.0));
    }
}
