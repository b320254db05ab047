//! Python's `strftime` for the dates that chat templates write; the time itself comes from the caller.

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// Counted from 1970-01-01.
const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// Formats the moment `seconds` after 1970-01-01 00:00 by `format`. Directives it does not know are left as they are.
pub(super) fn strftime(format: &str, seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let name =
        |names: &[&'static str], at: i64| usize::try_from(at).ok().and_then(|at| names.get(at)).copied().unwrap_or("");
    let (month_name, day_name) = (name(&MONTHS, month - 1), name(&DAYS, days.rem_euclid(7)));
    let short = |name: &'static str| name.get(..3).unwrap_or(name);
    let mut out = String::new();
    let mut rest = format;
    while let Some((before, field)) = rest.split_once('%') {
        out += before;
        // "%-d" is "%d" without the leading zero.
        let (padding, field) = field.strip_prefix('-').map_or((2, field), |field| (1, field));
        let mut characters = field.chars();
        let padded = |number: i64| format!("{number:0padding$}");
        out += &match characters.next() {
            Some('Y') => year.to_string(),
            Some('y') => padded(year.rem_euclid(100)),
            Some('m') => padded(month),
            Some('d') => padded(day),
            Some('H') => padded(hour),
            Some('I') => padded((hour + 11) % 12 + 1),
            Some('M') => padded(minute),
            Some('S') => padded(second % 60),
            Some('p') => (if hour < 12 { "AM" } else { "PM" }).to_owned(),
            Some('B') => month_name.to_owned(),
            Some('b') => short(month_name).to_owned(),
            Some('A') => day_name.to_owned(),
            Some('a') => short(day_name).to_owned(),
            Some('%') | None => "%".to_owned(),
            Some(other) => format!("%{other}"),
        };
        rest = characters.as_str();
    }
    out + rest
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
fn date(days: i64) -> (i64, i64, i64) {
    // Years begin in March, so that the leap day is the last of its year; an era is 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values are from Python's `datetime.fromtimestamp(seconds, UTC).strftime`.
    #[test]
    fn moments_are_written_as_python_does() {
        let all = "%Y-%m-%d %-d %-m %y %B %b %A %a %H:%M:%S %I %p %% %Q";
        let cases = [
            (0, "1970-01-01 1 1 70 January Jan Thursday Thu 00:00:00 12 AM % %Q"),
            (951_782_399, "2000-02-28 28 2 00 February Feb Monday Mon 23:59:59 11 PM % %Q"),
            (951_782_400, "2000-02-29 29 2 00 February Feb Tuesday Tue 00:00:00 12 AM % %Q"),
            (1_721_999_999, "2024-07-26 26 7 24 July Jul Friday Fri 13:19:59 01 PM % %Q"),
            (4_107_542_399, "2100-02-28 28 2 00 February Feb Sunday Sun 23:59:59 11 PM % %Q"),
            (-1, "1969-12-31 31 12 69 December Dec Wednesday Wed 23:59:59 11 PM % %Q"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(strftime(all, seconds), expected);
        }
        assert_eq!(strftime("100%", 0), "100%");
    }
}
