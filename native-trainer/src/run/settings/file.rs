//! Settings in a TOML file, and flags that stand above them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use toml::de::{DeTable, DeValue, Error as TomlError};
use toml::{Table, Value};

use super::Settings;
use crate::{Error, Result};

/// What begins the names of the flags of adapters, which are a table of the file.
const ADAPTERS: &str = "lora-";

/// A file of settings that was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SettingsFile {
    table: Table,
    /// The lines of settings, by their names.
    lines: BTreeMap<String, usize>,
    /// The file, for messages.
    name: String,
}

impl SettingsFile {
    /// Reads a TOML file of the settings `T`.
    ///
    /// # Errors
    /// When it cannot be read, or holds anything but settings.
    pub fn read<T: Settings>(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(Error::path("read", path))?;
        Self::parse::<T>(&text, &path.display().to_string()).map_err(Error::Request)
    }

    pub(super) fn parse<T: Settings>(text: &str, name: &str) -> Result<Self, String> {
        // What some editors begin a file with.
        let text = text.trim_start_matches('\u{feff}');
        let line_at = |offset: usize| 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
        let failed = |error: TomlError| match error.span() {
            Some(span) => format!("{name}, line {}: {}", line_at(span.start), error.message()),
            None => format!("{name}: {}", error.message()),
        };
        let mut file = Self { name: name.to_string(), ..Self::default() };
        let places = DeTable::parse(text).map_err(failed)?;
        for (key, value) in places.get_ref() {
            let line = line_at(key.span().start);
            let own = kebab(key.get_ref());
            if file.lines.insert(own.clone(), line).is_some() {
                return Err(format!("{name}, line {line}: {own} is set twice"));
            }
            if let DeValue::Table(parts) = value.get_ref() {
                for (part, _) in parts {
                    file.lines.insert(format!("{own}-{}", kebab(part.get_ref())), line_at(part.span().start));
                }
            }
        }
        let table: Table = text.parse().map_err(failed)?;
        file.table = table.into_iter().map(|(key, value)| (kebab(&key), with_kebab_keys(value))).collect();
        for (key, value) in &file.table {
            // One setting at a time: serde cannot refuse unknown names in flattened structs, nor name a wrong value.
            let alone = Table::from_iter([(key.clone(), value.clone())]);
            let settings: Result<T, _> = alone.try_into();
            let settings = settings.map_err(|error| file.at(key, &format!("{key}: {}", error.message())))?;
            if !Table::try_from(&settings).is_ok_and(|known| known.contains_key(key)) {
                let command = T::COMMAND;
                let problem =
                    format!("{key} is not a setting; their names are those of the flags of paddock {command}");
                return Err(file.at(key, &problem));
            }
        }
        // The same default as the flag's.
        if let Some(Value::Table(lora)) = file.table.get_mut("lora")
            && let (Some(rank), false) = (lora.get("rank").and_then(Value::as_integer), lora.contains_key("alpha"))
        {
            lora.insert("alpha".to_string(), Value::Float(rank as f64));
        }
        Ok(file)
    }

    /// True when the file has this setting.
    pub fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// The settings of the file, but for those of `flags` whose names are among `given`, as in `batch-size`. What neither
    /// says is as the preset has it, and otherwise the default.
    ///
    /// # Errors
    /// When a setting makes no sense; one from the file is named with its line.
    pub fn with_flags<T: Settings>(mut self, flags: &T, given: &BTreeSet<String>) -> Result<T> {
        let unwritable = |error: toml::ser::Error| Error::Request(format!("these settings cannot be written: {error}"));
        let mut flags = Table::try_from(flags).map_err(unwritable)?;
        let adapters = flags.remove("lora").and_then(|value| value.try_into::<Table>().ok()).unwrap_or_default();
        for (name, value) in flags.into_iter().filter(|(name, _)| given.contains(name)) {
            self.lines.remove(&name);
            self.table.insert(name, value);
        }
        let had = self.table.contains_key("lora");
        let given = |part: &str| given.contains(&format!("{ADAPTERS}{part}"));
        for (part, value) in adapters.into_iter().filter(|(part, _)| given(part) || !had && given("rank")) {
            let lora = self.table.entry("lora").or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(lora) = lora {
                lora.insert(part, value);
            }
        }
        if !had && !given("rank") && (given("alpha") || given("targets")) {
            return Err(Error::Request("--lora-alpha, --lora-targets and --lora-dropout need --lora-rank".to_string()));
        }
        let parsed = |table: &Table| -> Result<T> {
            let settings = table.clone().try_into();
            settings.map_err(|error: TomlError| Error::Request(format!("{}: {}", self.name, error.message())))
        };
        // A kind of run may have other defaults for the settings of every run than these have by themselves.
        let defaults = Table::try_from(T::default()).map_err(unwritable)?;
        for beneath in [parsed(&self.table)?.preset(), defaults] {
            for (name, value) in beneath {
                self.table.entry(name).or_insert(value);
            }
        }
        let settings = parsed(&self.table)?;
        settings.check().map_err(|problem| Error::Request(self.of_sentence(&problem)))?;
        Ok(settings)
    }

    /// A problem with the line of the setting that its sentence names.
    fn of_sentence(&self, problem: &str) -> String {
        let words = problem.split(|character: char| !(character.is_alphanumeric() || character == '-'));
        let known = |word: &str| self.lines.contains_key(word);
        match words.into_iter().find(|word| known(word)) {
            Some(name) => self.at(name, problem),
            None => problem.to_string(),
        }
    }

    fn at(&self, name: &str, problem: &str) -> String {
        match self.lines.get(name) {
            Some(line) => format!("{}, line {line}: {problem}", self.name),
            None => format!("{}: {problem}", self.name),
        }
    }
}

/// `batch_size` as `batch-size`.
fn kebab(name: &str) -> String {
    name.replace('_', "-")
}

fn with_kebab_keys(value: Value) -> Value {
    match value {
        Value::Table(table) => Value::Table(table.into_iter().map(|(key, value)| (kebab(&key), value)).collect()),
        other => other,
    }
}
