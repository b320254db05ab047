//! Numbers for display. A fixed number of decimals keeps changing figures from jumping about.

/// Bytes in decimal units: `98.4 MB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    // 999.95 would be written as 1000.0.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A count with commas between thousands: `4,096`.
pub fn thousands(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A remaining time, rounded up: `8 s`, `3 min 20 s`, `2 h 5 min`.
pub fn wait(seconds: f64) -> String {
    let seconds = seconds.max(0.0).ceil() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A measured duration: `0.31 s`.
pub fn seconds(seconds: f64) -> String {
    format!("{seconds:.2} s")
}

/// A speed: `23.4 tokens/s`, or a dash while there is none.
pub fn tokens_per_second(rate: Option<f64>) -> String {
    rate.map_or("– tokens/s".to_string(), |rate| format!("{rate:.1} tokens/s"))
}

/// A score: `−0.744`.
pub fn score(score: f32) -> String {
    format!("{score:.3}").replace('-', "−")
}

/// A rank: `1st`, `2nd`, `3rd`, `4th`.
pub fn place(rank: usize) -> String {
    let ending = match (rank % 10, rank % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{rank}{ending}")
}

/// A count with its noun: `1 token`, `2 tokens`.
pub fn count(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_decimal_and_have_one_digit_after_the_point() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (98_362_432, "98.4 MB"),
            (999_949_999, "999.9 MB"),
            (999_950_000, "1.0 GB"),
            (u64::MAX, "18446744.1 TB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn waits_are_rounded_up() {
        for (seconds, text) in [
            (-1.0, "0 s"),
            (0.2, "1 s"),
            (59.0, "59 s"),
            (59.5, "1 min 0 s"),
            (200.0, "3 min 20 s"),
            (7500.0, "2 h 5 min"),
        ] {
            assert_eq!(wait(seconds), text);
        }
    }

    #[test]
    fn speeds_and_counts() {
        assert_eq!(tokens_per_second(Some(23.44)), "23.4 tokens/s");
        assert_eq!(tokens_per_second(None), "– tokens/s");
        assert_eq!(count(1, "token"), "1 token");
        assert_eq!(count(0, "message"), "0 messages");
        assert_eq!(seconds(0.314), "0.31 s");
    }

    #[test]
    fn scores_and_places() {
        assert_eq!([score(-19.6476), score(0.0), score(1.25)], ["−19.648", "0.000", "1.250"]);
        assert_eq!(
            [1, 2, 3, 4, 11, 12, 13, 21, 22, 111].map(place).join(" "),
            "1st 2nd 3rd 4th 11th 12th 13th 21st 22nd 111th"
        );
    }
}
