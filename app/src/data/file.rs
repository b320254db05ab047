//! The rows of a file.

use paddock_engine::instructions::{Diversity, Repeats, Row, Stats, words};
use paddock_engine::records::{Place, Records};

use super::message::Find;
use super::search::{Needle, around, beginning};

/// Rows that are shown at a time.
pub const SHOWN: usize = 25;
/// Characters of an instruction that stand for the row.
const BEGINNING: usize = 160;
/// Most characters that are shown of a text.
const LONGEST: usize = 20_000;
/// Most bins of a histogram.
const BINS: usize = 40;

/// The texts of a row.
const NAMES: [&str; 3] = ["Instruction", "Input", "Output"];

/// A file that has been read.
pub struct DataFile {
    places: Vec<Place>,
    rows: Vec<Row>,
    repeats: Repeats,
}

/// What is in a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Which rows are left out, and why, as a sentence.
    pub note: Option<String>,
    /// The rows in figures.
    pub stats: Stats,
    /// How many rows have so many words.
    pub lengths: Spread,
    /// What the instructions ask for.
    pub diversity: Diversity,
}

/// How many rows have so many words.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    /// Where the last bin ends; all are equally wide, and the first begins at 0.
    pub high: f64,
    /// Kinds of texts by name, with the number of rows in each bin.
    pub sets: [(String, Vec<f64>); 2],
}

/// A row that was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRow {
    /// Where it stands in the file.
    pub place: Place,
    /// How its instruction begins.
    pub beginning: String,
    /// Where the text stands that was looked for.
    pub hit: Option<Hit>,
    /// Which row before it says the same, for people.
    pub repeats: Option<String>,
    /// Its texts by name, with the number of their words; one that is very long is cut.
    pub texts: Vec<(&'static str, usize, String)>,
}

/// A text that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The name of the text in which it stands.
    pub of: &'static str,
    /// What stands before it, itself, and what follows.
    pub around: [String; 3],
}

impl DataFile {
    /// Reads the bytes of the file `name`, in any of the forms that `paddock instruct` reads.
    ///
    /// # Errors
    /// A sentence when it holds no instructions.
    pub fn read(name: &str, bytes: &[u8]) -> Result<(Self, Figures), String> {
        let refused = |error: paddock_engine::Error| format!("{error}. Change the file, or choose another.");
        let records = Records::read(name, bytes, |value, _| Row::parse(value).map(|row| vec![row])).map_err(refused)?;
        let places = records.usable.iter().map(|(place, _)| *place).collect();
        let (rows, note) = records.checked(false).map_err(refused)?;
        let every: Vec<&Row> = rows.iter().collect();
        let repeats = Repeats::of(&every);
        let stats = Stats::of(&every, &repeats);
        let figures = Figures {
            note: note.map(|note| format!("{note}.")),
            lengths: lengths(&rows, &stats),
            stats,
            diversity: Diversity::of(rows.iter().map(|row| row.instruction.as_str())),
        };
        Ok((Self { places, rows, repeats }, figures))
    }

    /// How many rows there are of those that are looked for, and some of them.
    pub fn find(&self, find: &Find) -> (usize, Vec<FoundRow>) {
        let needle = Needle::new(&find.text);
        let (mut count, mut rows) = (0, Vec::new());
        for (at, row) in self.rows.iter().enumerate() {
            let hit = hit(row, &needle);
            if find.repeats && self.repeats.near[at].is_none() || hit.is_none() && !needle.is_empty() {
                continue;
            }
            if count >= find.from && rows.len() < SHOWN {
                rows.push(self.found(at, hit));
            }
            count += 1;
        }
        (count, rows)
    }

    fn found(&self, at: usize, hit: Option<Hit>) -> FoundRow {
        let row = &self.rows[at];
        let says = |as_what: &str, first: Option<usize>| first.map(|first| format!("{as_what} {}", self.places[first]));
        let (equal, near) = (self.repeats.equal[at], self.repeats.near[at]);
        let texts = texts(row).filter(|(name, text)| *name != "Input" || !text.is_empty());
        FoundRow {
            place: self.places[at],
            beginning: beginning(&row.instruction, BEGINNING),
            hit,
            repeats: says("Equal to", equal).or_else(|| says("Asks what is asked at", near)),
            texts: texts.map(|(name, text)| (name, words(text), beginning(text, LONGEST))).collect(),
        }
    }
}

/// The texts of a row by name.
fn texts(row: &Row) -> impl Iterator<Item = (&'static str, &str)> {
    NAMES.into_iter().zip([row.instruction.as_str(), &row.input, &row.output])
}

/// Where what is looked for first stands in a row.
fn hit(row: &Row, needle: &Needle) -> Option<Hit> {
    texts(row).find_map(|(of, text)| Some(Hit { of, around: around(text, needle.find(text)?) }))
}

/// The lengths of instructions and outputs in bins that are whole words wide. They end at twice the length that 95 in 100 have
/// at most, so that a few long rows leave the others their room.
fn lengths(rows: &[Row], stats: &Stats) -> Spread {
    let [instructions, outputs] = [&stats.instruction_words, &stats.output_words];
    let last =
        [instructions, outputs].map(|lengths| lengths.longest.min(2 * lengths.p95)).into_iter().max().unwrap_or(0);
    let width = last / BINS + 1;
    let bins = last / width + 1;
    let set = |name: &str, text: fn(&Row) -> &str| {
        let mut counts = vec![0.0; bins];
        for row in rows {
            if let Some(count) = counts.get_mut(words(text(row)) / width) {
                *count += 1.0;
            }
        }
        (name.to_string(), counts)
    };
    let sets = [set("instructions", |row| &row.instruction), set("outputs", |row| &row.output)];
    Spread { high: (bins * width) as f64, sets }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = r#"{"instruction":"Write a story.","input":"","output":"Once upon a time"}
{"instruction":"Name the Sea.","input":"It is grey.","output":"North Sea"}
{"text":"no instruction"}
{"instruction":"write a story","output":"There was a horse"}
{"instruction":"Write a story.","output":"Once upon a time"}
"#;

    fn places(file: &DataFile, text: &str, repeats: bool) -> Vec<String> {
        let (count, rows) = file.find(&Find { text: text.to_string(), repeats, from: 0 });
        assert_eq!(count, rows.len());
        rows.into_iter().map(|row| row.place.to_string()).collect()
    }

    #[test]
    fn a_file_is_counted_and_searched() {
        let (file, figures) = DataFile::read("data.jsonl", LINES.as_bytes()).unwrap();
        let stats = &figures.stats;
        assert_eq!((stats.rows, stats.with_input, stats.duplicates, stats.near_duplicates), (4, 1, 1, 2));
        let note = "data.jsonl: left out 1 of 5 records, at line 3: a plain text has no instruction.";
        assert_eq!(figures.note.as_deref(), Some(note));
        assert_eq!(figures.diversity.verbs[0].count, 3);
        assert_eq!(places(&file, "", false), ["line 1", "line 2", "line 4", "line 5"]);
        assert_eq!(places(&file, "SEA", false), ["line 2"]);
        assert_eq!(places(&file, "", true), ["line 4", "line 5"]);
        assert_eq!(places(&file, "horse", true), ["line 4"]);
        assert_eq!(places(&file, "nothing", false), [""; 0]);
        let (_, rows) = file.find(&Find { text: "horse".to_string(), repeats: false, from: 0 });
        let row = &rows[0];
        assert_eq!(row.repeats.as_deref(), Some("Asks what is asked at line 1"));
        assert_eq!(row.hit, Some(Hit { of: "Output", around: ["There was a ", "horse", ""].map(String::from) }));
        assert_eq!(row.texts[1], ("Output", 4, "There was a horse".to_string()));
        let (_, rows) = file.find(&Find { from: 3, ..Find::default() });
        assert_eq!(rows[0].repeats.as_deref(), Some("Equal to line 1"));
    }

    #[test]
    fn some_rows_are_shown_at_a_time() {
        let lines = r#"{"prompt":"Add.","completion":"1"}"#.to_string() + "\n";
        let (file, _) = DataFile::read("data.jsonl", lines.repeat(60).as_bytes()).unwrap();
        for (from, first, shown) in [(0, 1, 25), (50, 51, 10)] {
            let (count, rows) = file.find(&Find { from, ..Find::default() });
            assert_eq!((count, rows.len(), rows[0].place), (60, shown, Place::Line(first)));
        }
    }

    #[test]
    fn a_few_long_rows_leave_the_others_their_room() {
        let row = |words: usize| Row { instruction: "a ".repeat(words), ..Row::default() };
        let rows: Vec<Row> = (0..100).map(|index| row(if index < 96 { 1 + index % 10 } else { 1000 })).collect();
        let every: Vec<&Row> = rows.iter().collect();
        let found = lengths(&rows, &Stats::of(&every, &Repeats::of(&every)));
        assert_eq!((found.high, found.sets[0].1[1], found.sets[0].1.iter().sum::<f64>()), (21.0, 10.0, 96.0));
        assert_eq!(found.sets[1].1[0], 100.0);
        let none = lengths(&[], &Stats::of(&[], &Repeats::of(&[])));
        assert_eq!((none.high, none.sets.len()), (1.0, 2));
    }

    #[test]
    fn what_holds_no_instructions_is_one_sentence() {
        for (bytes, words) in [
            (&b"a,b\n1,2\n"[..], "it is CSV; write it as JSON lines first"),
            (b"{\"text\": \"a\"}", "data.json, line 1: a plain text has no instruction. Change the file"),
            (b"", "it contains no records. Change the file"),
        ] {
            let sentence = DataFile::read("data.json", bytes).err().unwrap();
            assert!(sentence.starts_with("data.json") && sentence.contains(words), "{sentence}");
        }
    }
}
