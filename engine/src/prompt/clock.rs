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
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Formats the moment `seconds` after 1970-01-01 00:00 by `format`, as Python's `datetime.strftime` does with the C library of
/// GNU. Directives it does not know are left as they are.
pub(super) fn strftime(format: &str, seconds: i64) -> String {
    let moment = Moment::new(seconds);
    let mut out = String::new();
    let mut rest = format;
    while let Some((before, field)) = rest.split_once('%') {
        out += before;
        let letter = field.find(|c: char| !"-_0^#".contains(c)).unwrap_or(field.len());
        let (flags, field) = field.split_at(letter);
        let mut characters = field.chars();
        let directive = characters.next();
        out += &match directive.map(|directive| (directive, moment.field(directive, flags))) {
            Some((_, Some(text))) => text,
            Some((directive, None)) => format!("%{flags}{directive}"),
            None => format!("%{flags}"),
        };
        rest = characters.as_str();
    }
    out + rest
}

/// A moment in the parts that dates are written with.
struct Moment {
    seconds: i64,
    year: i64,
    month: i64,
    day: i64,
    /// From 1.
    day_of_year: i64,
    /// From Sunday, 0.
    weekday: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

impl Moment {
    fn new(seconds: i64) -> Self {
        let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = date(days);
        Self {
            seconds,
            year,
            month,
            day,
            day_of_year: days - first_day(year) + 1,
            // The first day was a Thursday.
            weekday: (days + 4).rem_euclid(7),
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
        }
    }

    /// The text of a directive. Of its flags, `-` stands for no padding, `_` for spaces, and `^` for capitals.
    fn field(&self, directive: char, flags: &str) -> Option<String> {
        let number = |number: i64, width: usize, fill: char| {
            let fill = flags.chars().rfind(|flag| "-_0".contains(*flag)).unwrap_or(fill);
            match fill {
                '-' => number.to_string(),
                '_' => format!("{number:width$}"),
                _ => format!("{number:0width$}"),
            }
        };
        let two = |value: i64| number(value, 2, '0');
        let month = usize::try_from(self.month - 1).ok().and_then(|month| MONTHS.get(month)).copied().unwrap_or("");
        let day = usize::try_from(self.weekday).ok().and_then(|day| DAYS.get(day)).copied().unwrap_or("");
        let short = |name: &'static str| name.get(..3).unwrap_or(name).to_owned();
        let hour_of_12 = (self.hour + 11) % 12 + 1;
        let half = if self.hour < 12 { "AM" } else { "PM" };
        let whole = |format: &str| strftime(format, self.seconds);
        let (week_year, week) = self.week();
        let text = match directive {
            'Y' => self.year.to_string(),
            'C' => two(self.year.div_euclid(100)),
            'y' => two(self.year.rem_euclid(100)),
            'm' => two(self.month),
            'd' => two(self.day),
            'e' => number(self.day, 2, '_'),
            'j' => number(self.day_of_year, 3, '0'),
            'H' => two(self.hour),
            'k' => number(self.hour, 2, '_'),
            'I' => two(hour_of_12),
            'l' => number(hour_of_12, 2, '_'),
            'M' => two(self.minute),
            'S' => two(self.second),
            's' => self.seconds.to_string(),
            // The time of day comes in whole seconds, and without a zone.
            'f' => "000000".to_owned(),
            'z' | 'Z' => String::new(),
            'p' => half.to_owned(),
            'P' => half.to_lowercase(),
            'B' => month.to_owned(),
            'b' | 'h' => short(month),
            'A' => day.to_owned(),
            'a' => short(day),
            'w' => self.weekday.to_string(),
            'u' => ((self.weekday + 6) % 7 + 1).to_string(),
            'U' => two((self.day_of_year + 6 - self.weekday) / 7),
            'W' => two((self.day_of_year + 6 - (self.weekday + 6) % 7) / 7),
            'V' => two(week),
            'G' => week_year.to_string(),
            'g' => two(week_year.rem_euclid(100)),
            'F' => whole("%Y-%m-%d"),
            'D' | 'x' => whole("%m/%d/%y"),
            'T' | 'X' => whole("%H:%M:%S"),
            'R' => whole("%H:%M"),
            'r' => whole("%I:%M:%S %p"),
            'c' => whole("%a %b %e %H:%M:%S %Y"),
            'n' => "\n".to_owned(),
            't' => "\t".to_owned(),
            '%' => "%".to_owned(),
            _ => return None,
        };
        Some(if flags.contains('^') { text.to_uppercase() } else { text })
    }

    /// The year and the week of ISO 8601, whose weeks begin on Monday and belong to the year of their Thursday.
    fn week(&self) -> (i64, i64) {
        let monday_based = (self.weekday + 6) % 7;
        let thursday = first_day(self.year) + self.day_of_year - 1 - monday_based + 3;
        let (year, _, _) = date(thursday);
        (year, (thursday - first_day(year)) / 7 + 1)
    }
}

/// The first of January of `year`, in days from 1970-01-01.
fn first_day(year: i64) -> i64 {
    let before = year - 1;
    before * 365 + before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400) - 719_162
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
        let more = "%s|%F|%T|%D|%R|%r|%c|%x|%X|%j|%U|%W|%V|%G|%g|%u|%w|%e|%k|%l|%P|%h|%C|%f|%z|%Z|%n|%t|\
         %^a|%_d|%-j|%_H|%^B|%0e|%:";
        let cases = [
            (
                0,
                "0|1970-01-01|00:00:00|01/01/70|00:00|12:00:00 AM|Thu Jan  1 00:00:00 1970|01/01/70|\
             00:00:00|001|00|00|01|1970|70|4|4| 1| 0|12|am|Jan|19|000000|||\n|\t|THU| 1|1| 0|JANUARY|01|%:",
            ),
            (
                951_782_400,
                "951782400|2000-02-29|00:00:00|02/29/00|00:00|12:00:00 AM|\
             Tue Feb 29 00:00:00 2000|02/29/00|00:00:00|060|09|09|09|2000|00|2|2|29| 0|12|am|Feb|20|\
             000000|||\n|\t|TUE|29|60| 0|FEBRUARY|29|%:",
            ),
            (
                1_721_999_999,
                "1721999999|2024-07-26|13:19:59|07/26/24|13:19|01:19:59 PM|\
             Fri Jul 26 13:19:59 2024|07/26/24|13:19:59|208|29|30|30|2024|24|5|5|26|13| 1|pm|Jul|20|\
             000000|||\n|\t|FRI|26|208|13|JULY|26|%:",
            ),
            (
                1_735_603_200,
                "1735603200|2024-12-31|00:00:00|12/31/24|00:00|12:00:00 AM|\
             Tue Dec 31 00:00:00 2024|12/31/24|00:00:00|366|52|53|01|2025|25|2|2|31| 0|12|am|Dec|20|\
             000000|||\n|\t|TUE|31|366| 0|DECEMBER|31|%:",
            ),
            (
                1_104_537_600,
                "1104537600|2005-01-01|00:00:00|01/01/05|00:00|12:00:00 AM|\
             Sat Jan  1 00:00:00 2005|01/01/05|00:00:00|001|00|00|53|2004|04|6|6| 1| 0|12|am|Jan|20|\
             000000|||\n|\t|SAT| 1|1| 0|JANUARY|01|%:",
            ),
            (
                1_230_768_000,
                "1230768000|2009-01-01|00:00:00|01/01/09|00:00|12:00:00 AM|\
             Thu Jan  1 00:00:00 2009|01/01/09|00:00:00|001|00|00|01|2009|09|4|4| 1| 0|12|am|Jan|20|\
             000000|||\n|\t|THU| 1|1| 0|JANUARY|01|%:",
            ),
            (
                1_609_459_199,
                "1609459199|2020-12-31|23:59:59|12/31/20|23:59|11:59:59 PM|\
             Thu Dec 31 23:59:59 2020|12/31/20|23:59:59|366|52|52|53|2020|20|4|4|31|23|11|pm|Dec|20|\
             000000|||\n|\t|THU|31|366|23|DECEMBER|31|%:",
            ),
            (
                4_107_542_399,
                "4107542399|2100-02-28|23:59:59|02/28/00|23:59|11:59:59 PM|\
             Sun Feb 28 23:59:59 2100|02/28/00|23:59:59|059|09|08|08|2100|00|7|0|28|23|11|pm|Feb|21|\
             000000|||\n|\t|SUN|28|59|23|FEBRUARY|28|%:",
            ),
        ];
        for (seconds, expected) in cases {
            assert_eq!(strftime(more, seconds), expected);
        }
    }
}
