//! How long to wait before a server is asked again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often a request is sent before a server that is busy or broken is given up.
pub(super) const ATTEMPTS: u32 = 8;
/// The longest wait that is the client's own choice.
const LONGEST: Duration = Duration::from_secs(60);
/// The longest wait that a server may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(600);

/// The wait after failure number `attempt` (from 0 on): what the header `Retry-After` says, else 1, 2, 4, … seconds. `noise`
/// makes it up to a quarter longer, so that clients that failed together do not come back together.
pub(super) fn wait(attempt: u32, retry_after: Option<&str>, now: SystemTime, noise: u32) -> Duration {
    let asked = retry_after.and_then(|text| match text.trim().parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => {
            let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
            Some(Duration::from_secs(http_date(text)?).saturating_sub(now))
        }
    });
    let wait = match asked {
        Some(asked) => asked.min(LONGEST_ASKED),
        None => Duration::from_secs(1 << attempt.min(6)).min(LONGEST),
    };
    wait + wait.mul_f64(f64::from(noise % 1024) / 4096.0)
}

/// Seconds from 1970 to a date such as "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110, section 5.6.7).
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, date) = text.trim().split_once(", ")?;
    let [day, month, year, time, "GMT"] = date.split(' ').collect::<Vec<_>>()[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let (day, year): (u64, u64) = (day.parse().ok()?, year.parse().ok()?);
    let [hour, minute, second] = time.split(':').map(|part| part.parse::<u64>().ok()).collect::<Option<Vec<_>>>()?[..]
    else {
        return None;
    };
    if !(1970..10_000).contains(&year) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days of the civil calendar (Hinnant, "chrono-Compatible Low-Level Date Algorithms"): years begin in March.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_seconds() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000));
        for wrong in ["", "soon", "Sun, 06 Nov 1994", "Sun, 06 Nov 1994 08:49 GMT", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(http_date(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_server_says_how_long_or_the_pauses_grow() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_770);
        let wait = |attempt, after| wait(attempt, after, now, 0).as_secs();
        assert_eq!([0, 1, 2, 5, 6, 40].map(|attempt| wait(attempt, None)), [1, 2, 4, 32, 60, 60]);
        assert_eq!(wait(3, Some("2")), 2);
        assert_eq!(wait(0, Some("Sun, 06 Nov 1994 08:49:37 GMT")), 7);
        assert_eq!(wait(0, Some("Sun, 06 Nov 1993 08:49:37 GMT")), 0, "a date that has passed");
        assert_eq!(wait(1, Some("in a while")), 2);
        assert_eq!(wait(0, Some("99999999")), 600);
        assert_eq!(wait(1, Some("-5")), 2);
        assert!(super::wait(0, None, now, 1023) > Duration::from_secs(1));
    }
}
