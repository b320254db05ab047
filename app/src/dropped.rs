//! What files that were dropped on the page are, by their names.

/// What dropped files are taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// The files of one model.
    Model,
    /// Conversations that were saved.
    Chats,
    /// A file of data.
    Data,
    /// Nothing that the page takes.
    Other,
}

/// What files of these names are. A model's weights make all of them a model's: its other files are JSON, too. Where a file of
/// data `is_expected`, any other file is one.
pub fn classify(names: &[String], is_expected: bool) -> Dropped {
    let ends = |name: &String, endings: &[&str]| {
        let name = name.to_ascii_lowercase();
        endings.iter().any(|ending| name.ends_with(ending))
    };
    if names.iter().any(|name| ends(name, &[".gguf", ".safetensors"])) {
        Dropped::Model
    } else if is_expected {
        if names.len() == 1 { Dropped::Data } else { Dropped::Other }
    } else if !names.is_empty() && names.iter().all(|name| ends(name, &[".json", ".md"])) {
        Dropped::Chats
    } else {
        Dropped::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_make_a_model_and_only_saved_chats_are_chats() {
        for (names, expected) in [
            (&["m-00001-of-00002.gguf", "m-00002-of-00002.GGUF"][..], Dropped::Model),
            (&["config.json", "README.md", "model.safetensors"], Dropped::Model),
            (&["chats.json", "A horse.MD"], Dropped::Chats),
            (&["chats.json", "horse.png"], Dropped::Other),
            (&["metrics.jsonl"], Dropped::Other),
            (&[], Dropped::Other),
        ] {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            assert_eq!(classify(&names, false), expected, "{names:?}");
        }
    }

    #[test]
    fn where_data_is_expected_a_single_file_is_data() {
        for (names, expected) in [
            (&["rows.json"][..], Dropped::Data),
            (&["rows"], Dropped::Data),
            (&["m.gguf"], Dropped::Model),
            (&["rows.json", "more.json"], Dropped::Other),
        ] {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            assert_eq!(classify(&names, true), expected, "{names:?}");
        }
    }
}
