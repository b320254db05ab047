//! What the tokenizer classes of transformers take for granted.

/// A class that has defaults of its own; those that are not listed take everything from the model's files.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Class {
    /// Its name, without "Fast".
    pub name: &'static str,
    bos: Option<&'static str>,
    eos: &'static str,
    unknown: &'static str,
    padding: Option<&'static str>,
    /// Whether BOS goes before a text, where `add_bos_token` does not say.
    pub adds_bos: bool,
    /// `add_bos_token` and `add_eos_token` take the place of the `post_processor` in `tokenizer.json`.
    pub flags_rule: bool,
    /// `add_prefix_space` takes the place of what `tokenizer.json` says, and is false where it is absent.
    pub prefixes_by_flag: bool,
    /// `add_prefix_space`, where it is there, takes the place of what `tokenizer.json` says.
    pub builds_anew: bool,
}

const CLASSES: [Class; 7] = [
    llama("LlamaTokenizer"),
    llama("CodeLlamaTokenizer"),
    Class { bos: Some("<bos>"), eos: "<eos>", padding: Some("<pad>"), builds_anew: false, ..llama("GemmaTokenizer") },
    Class {
        builds_anew: false,
        bos: Some("<BOS_TOKEN>"),
        eos: "<|END_OF_TURN_TOKEN|>",
        unknown: "<UNK>",
        padding: Some("<PAD>"),
        ..llama("CohereTokenizer")
    },
    Class { flags_rule: true, ..gpt2("GPTNeoXTokenizer") },
    gpt2("GPT2Tokenizer"),
    Class { bos: None, padding: Some("<|endoftext|>"), prefixes_by_flag: false, ..gpt2("Qwen2Tokenizer") },
];

const fn llama(name: &'static str) -> Class {
    Class {
        name,
        bos: Some("<s>"),
        eos: "</s>",
        unknown: "<unk>",
        padding: None,
        adds_bos: true,
        flags_rule: true,
        prefixes_by_flag: false,
        builds_anew: true,
    }
}

const fn gpt2(name: &'static str) -> Class {
    const END: &str = "<|endoftext|>";
    Class {
        name,
        bos: Some(END),
        eos: END,
        unknown: END,
        padding: None,
        adds_bos: false,
        flags_rule: false,
        prefixes_by_flag: true,
        builds_anew: false,
    }
}

/// The class that `config.json`'s `model_type` stands for (transformers' `tokenization_auto.py`).
const MODEL_TYPES: [(&str, &str); 4] =
    [("llama", "LlamaTokenizer"), ("mistral", "LlamaTokenizer"), ("opt", "GPT2Tokenizer"), ("qwen2", "Qwen2Tokenizer")];

impl Class {
    /// The class `name`, as `tokenizer_config.json` spells it.
    pub fn named(name: &str) -> Option<&'static Self> {
        // Folders of the first months spell it "LLaMATokenizer".
        let name = name.strip_suffix("Fast").unwrap_or(name);
        CLASSES.iter().find(|class| class.name.eq_ignore_ascii_case(name))
    }

    /// The class of a model whose `tokenizer_config.json` names none.
    pub fn of_model(model_type: &str) -> Option<&'static Self> {
        MODEL_TYPES.iter().find(|(known, _)| *known == model_type).and_then(|(_, class)| Self::named(class))
    }

    /// Its special tokens, by name.
    pub fn tokens(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let tokens = [
            ("bos_token", self.bos),
            ("eos_token", Some(self.eos)),
            ("unk_token", Some(self.unknown)),
            ("pad_token", self.padding),
        ];
        tokens.into_iter().filter_map(|(name, token)| Some((name, token?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_without_a_named_class_has_that_of_its_type() {
        let class = |model_type: &str| Class::of_model(model_type).map(|class| class.name);
        assert_eq!(class("llama"), Some("LlamaTokenizer"));
        assert_eq!(class("mistral"), Some("LlamaTokenizer"));
        assert_eq!(class("opt"), Some("GPT2Tokenizer"));
        assert_eq!(class("qwen2"), Some("Qwen2Tokenizer"));
        assert_eq!(class("bert"), None);
    }
}
