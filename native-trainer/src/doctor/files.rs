//! Which files of a model are read, and for what.

use indicatif::BinaryBytes;
use paddock_engine::json;
use paddock_engine::weights::Source;

use super::Section;

/// Files that are read and what for; the first that is there of those with the same purpose is the one.
const KNOWN: [(&str, &str); 13] = [
    ("manifest.json", "what is in the web pack"),
    ("config.json", "architecture and sizes"),
    ("generation_config.json", "what ends an answer"),
    ("model.safetensors.index.json", "which file holds which weights"),
    ("tokenizer.json", VOCABULARY),
    ("tokenizer.model", VOCABULARY),
    ("vocab.json", VOCABULARY),
    ("merges.txt", "how a vocabulary merges"),
    ("tokenizer_config.json", "special tokens, template"),
    ("special_tokens_map.json", OLDER),
    ("added_tokens.json", OLDER),
    ("chat_template.jinja", "the template, before that of tokenizer_config.json"),
    ("weight_diff.json", "the base model of a weight diff"),
];
const VOCABULARY: &str = "the vocabulary";
const OLDER: &str = "special and added tokens";

/// Other files are counted once they are more.
const MOST_OTHERS: usize = 24;

const LIMIT: u64 = 16 << 20;

/// `weights` are the files that the model's weights are read from, if it can be opened.
pub(super) fn examine(source: &impl Source, weights: Option<&[String]>) -> Section {
    let mut section = Section::new("files");
    let names = source.list();
    let config = pollster::block_on(source.read_all("tokenizer_config.json", LIMIT)).ok().flatten();
    let config = config.and_then(|bytes| json::parse(&bytes).ok()).unwrap_or_default();
    let listed = config.get("added_tokens_decoder").is_some();
    let mut vocabulary = None;
    let mut others = Vec::new();
    for name in &names {
        let size = pollster::block_on(source.size(name)).ok().flatten().unwrap_or_default();
        let size = BinaryBytes(size);
        let Some((_, purpose)) = KNOWN.iter().find(|(known, _)| known == name) else {
            let like_weights = [".safetensors", ".gguf", ".bin"].iter().any(|end| name.to_lowercase().ends_with(end));
            match weights {
                Some(files) if files.contains(name) => section.good(format!("{name} ({size}): weights")),
                Some(files) if like_weights => {
                    let more = if files.len() > 1 { " and others" } else { "" };
                    let first = files.first().map_or("no file", String::as_str);
                    section.note(format!("{name} ({size}) is not read: the weights are in {first}{more}"));
                }
                None if like_weights => section.good(format!("{name} ({size}): weights, perhaps")),
                _ => others.push(name.as_str()),
            }
            continue;
        };
        if *purpose == OLDER && listed {
            section.note(format!("{name} ({size}) is not read: tokenizer_config.json has added_tokens_decoder"));
            continue;
        }
        section.good(format!("{name} ({size}): {purpose}"));
    }
    for name in ["tokenizer.json", "tokenizer.model", "vocab.json"] {
        if names.iter().any(|other| other == name) {
            match vocabulary {
                None => vocabulary = Some(name),
                Some(read) => section.note(format!("{read} goes before {name}, which is not read")),
            }
        }
    }
    if !others.is_empty() {
        let more = others.len().saturating_sub(MOST_OTHERS);
        others.truncate(MOST_OTHERS);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        section.good(format!("not read: {}{more}", others.join(", ")));
    }
    section
}
