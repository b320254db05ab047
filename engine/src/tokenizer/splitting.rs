//! How byte-level BPE vocabularies cut a text into words before they merge within them.

use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::{DecoderWrapper, NormalizerWrapper, PreTokenizerWrapper};

use crate::{Error, Result};

/// The rules of a vocabulary.
#[derive(Debug, Default)]
pub(super) struct Splitting {
    /// Applied in turn; each cuts the words further, and a match is a word of its own.
    patterns: Vec<&'static str>,
    /// GPT-2's pattern comes last.
    gpt2: bool,
    /// A space is put before the text.
    pub prefix_space: bool,
    /// The text is composed (Unicode NFC) first.
    nfc: bool,
    /// A word that is in the vocabulary becomes one token, whatever the merges say.
    whole_words: bool,
    /// BOS goes before a text by default.
    pub adds_bos: bool,
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const YOUTU: [&str; 2] = [
    "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
];
const DEEPSEEK_LLM: [&str; 6] = [
    r"[\r\n]",
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u{1F7D}ᾀ-ᾴᾶ-ᾼ\u{1FBE}ῂ-ῄῆ-ῌῐ-\u{1FD3}ῖ-\u{1FDB}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u{2126}ℨ\u{212A}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
    r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
    r"\s+$",
    "[一-龥ࠀ-一가-퟿]+",
    r"\p{N}+",
];
const DEEPSEEK_CODER: [&str; 5] = [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"];
const DEEPSEEK3: [&str; 3] = [
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
];
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
const JAIS2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}";
const CHAMELEON: [&str; 5] = [
    "<sentinel:[0-9]+>",
    "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
    r"([\t\n]|    |  )",
    r"\p{N}",
    r"[\p{P}!-/:-@\[-`{-~]",
];
const BAILING: &str =
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const SEED_CODER: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const EXAONE_MOE: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+";
const MINICPM5: [&str; 2] = [
    r"\p{N}{1,3}",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
];

impl Splitting {
    /// Those of GPT-2.
    pub fn gpt2() -> Self {
        Self { gpt2: true, ..Self::default() }
    }

    /// Those of Llama 3.
    pub fn llama3() -> Self {
        Self { whole_words: true, adds_bos: true, ..Self::by(&[LLAMA3]) }
    }

    /// Those of Qwen 2.
    pub fn qwen2() -> Self {
        Self { nfc: true, ..Self::by(&[QWEN2]) }
    }

    fn by(patterns: &[&'static str]) -> Self {
        Self { patterns: patterns.to_vec(), ..Self::default() }
    }

    /// By `tokenizer.ggml.pre`: names of llama.cpp (`llama-vocab.cpp`), patterns of the models' own `tokenizer.json`.
    pub fn named(pre: &str) -> Option<Self> {
        let digits_then_gpt2 = || Self { gpt2: true, ..Self::by(&[r"\p{N}"]) };
        Some(match pre {
            "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" | "trillion" | "granite-docling" | "gigachat" | "a.x-4.0"
            | "mellum" | "modern-bert" | "exaone4" | "roberta-bpe" | "jina-es" | "jina-de" | "jina-v1-en"
            | "jina-v2-es" | "jina-v2-de" | "jina-v2-code" => Self::gpt2(),
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b" | "mellum2" => {
                digits_then_gpt2()
            }
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2"
            | "jina-v5-nano" => Self::llama3(),
            "smaug-bpe" | "dbrx" | "glm4" | "chatglm-bpe" => Self::by(&[LLAMA3]),
            "tekken" => Self { whole_words: true, adds_bos: true, ..Self::by(&[TEKKEN]) },
            "qwen2" | "deepseek-r1-qwen" => Self::qwen2(),
            "megrez" | "kormo" | "f2llmv2" | "stablelm2" | "hunyuan" | "solar-open" | "grok-2" => Self::by(&[QWEN2]),
            "qwen35" => Self::by(&[QWEN35]),
            "gpt-4o" | "llama4" | "kanana2" | "talkie" | "minimax-m2" => Self::by(&[GPT4O]),
            "tiny_aya" | "cohere2moe" => Self::by(&[r"\d{1,3}(?=(?:\d{3})*\b)", GPT4O]),
            "youtu" => Self { whole_words: true, ..Self::by(&YOUTU) },
            "deepseek-llm" => Self::by(&DEEPSEEK_LLM),
            "deepseek-coder" => Self::by(&DEEPSEEK_CODER),
            "deepseek-v3" | "hunyuan-dense" | "joyai-llm" => Self::by(&DEEPSEEK3),
            "poro-chat" | "bloom" | "gpt3-finnish" => Self::by(&[BLOOM]),
            "viking" => Self::by(&[BLOOM, r"\p{N}"]),
            "jais-2" => Self::by(&[JAIS2]),
            "chameleon" => Self { gpt2: true, adds_bos: true, ..Self::by(&CHAMELEON) },
            "superbpe" => Self::by(&[r"\p{N}+", r"(?=(\d{3})+(?!\d))"]),
            "bailingmoe" | "bailingmoe2" | "llada-moe" => Self::by(&[BAILING]),
            "seed-coder" => Self::by(&[SEED_CODER]),
            "exaone-moe" => Self::by(&[EXAONE_MOE]),
            "minicpm5" => Self { whole_words: true, ..Self::by(&MINICPM5) },
            _ => return None,
        })
    }

    /// The tokenizer of a byte-level BPE vocabulary with these rules. `file` names the vocabulary's file in errors.
    ///
    /// # Errors
    /// When a merge makes a token that is not in the vocabulary.
    pub fn tokenizer(&self, vocabulary: Vocab, merges: Merges, file: &str) -> Result<tokenizers::Tokenizer> {
        let failed = |problem: String| Error::format(file, problem);
        let wrong = |e: serde_json::Error| failed(e.to_string());
        let bpe = BPE::builder().vocab_and_merges(vocabulary, merges).ignore_merges(self.whole_words).build();
        let mut tokenizer = tokenizers::Tokenizer::new(bpe.map_err(|e| failed(e.to_string()))?);
        if self.nfc {
            let nfc: NormalizerWrapper = serde_json::from_value(json!({ "type": "NFC" })).map_err(wrong)?;
            tokenizer.with_normalizer(Some(nfc));
        }
        let split: PreTokenizerWrapper = serde_json::from_value(self.pre_tokenizer()).map_err(wrong)?;
        tokenizer.with_pre_tokenizer(Some(split));
        let decoder: DecoderWrapper = serde_json::from_value(byte_alphabet(false, false)).map_err(wrong)?;
        tokenizer.with_decoder(Some(decoder));
        Ok(tokenizer)
    }

    /// The `pre_tokenizer` of a `tokenizer.json`.
    fn pre_tokenizer(&self) -> Value {
        let split = |pattern: &&str| json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
        let last = byte_alphabet(self.gpt2, self.prefix_space);
        let steps: Vec<Value> = self.patterns.iter().map(split).chain([last]).collect();
        json!({ "type": "Sequence", "pretokenizers": steps })
    }
}

/// Bytes as GPT-2's printable characters; `gpt2_pattern`: cut by its pattern first.
fn byte_alphabet(gpt2_pattern: bool, prefix_space: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": prefix_space, "trim_offsets": true, "use_regex": gpt2_pattern })
}

#[cfg(test)]
mod tests {
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    use super::*;

    fn words(pre: &str, text: &str) -> String {
        let rules = Splitting::named(pre).unwrap().pre_tokenizer();
        let rules: PreTokenizerWrapper = serde_json::from_value(rules).unwrap();
        let mut words = PreTokenizedString::from(text);
        rules.pre_tokenize(&mut words).unwrap();
        let splits = words.get_splits(OffsetReferential::Original, OffsetType::Byte);
        let words: Vec<&str> = splits.into_iter().map(|(_, (from, to), _)| &text[from..to]).collect();
        words.join("|")
    }

    /// Words by Python's `regex` module with the patterns of the models' `tokenizer.json`.
    #[test]
    fn texts_are_split_as_the_models_own_patterns_do() {
        let text = "I'LL pay $12345.67 for  Servers!\n\n  x\ty ";
        let cases = [
            ("gpt-2", "I|'|LL| pay| $|12345|.|67| for| | Servers|!|\n\n | x|\t|y| "),
            ("smollm", "I|'|LL| pay| $|1|2|3|4|5|.|6|7| for| | Servers|!|\n\n | x|\t|y| "),
            ("llama-bpe", "I|'LL| pay| $|123|45|.|67| for| | Servers|!\n\n| | x|\ty| "),
            ("pixtral", "I|'LL| pay| $|123|45|.|67| for| | Servers|!\n\n| | x|\ty| "),
            ("qwen2", "I|'LL| pay| $|1|2|3|4|5|.|6|7| for| | Servers|!\n\n| | x|\ty| "),
            ("tekken", "I|'LL| pay| $|1|2|3|4|5|.|6|7| for| | Servers|!\n\n| | x|\ty| "),
            ("deepseek-coder", "I|'|LL| pay| $|1|2|3|4|5|.|6|7| for| | Servers|!|\n|\n| | x|\ty| "),
            ("seed-coder", "I|'LL| pay| $|1|2|3|4|5|.|6|7| for| | Servers|!|\n\n| | x|\ty| "),
            ("deepseek-llm", "I|'|LL| pay| $|12345|.|67| for| | Servers|!|\n|\n| | x|\ty| "),
            ("deepseek-v3", "I|'LL| pay| $|123|45|.|67| for| | Servers|!\n\n| | x|\ty| "),
            ("poro-chat", "I'LL| pay| $12345|.|67| for| | Servers|!\n\n | x|\t|y| "),
            ("viking", "I'LL| pay| $|1|2|3|4|5|.|6|7| for| | Servers|!\n\n | x|\t|y| "),
            ("gpt-4o", "I'LL| pay| $|123|45|.|67| for| | Servers|!\n\n| | x|\ty| "),
            ("bailingmoe", "I|'LL| pay| $|1|2|3|4|5|.|6|7| for| | Servers|!\n\n| | x|\ty| "),
            ("jais-2", "I|'LL| pay| $|123|45|.|67| for| | Servers|!\n\n| | x|\ty| "),
            ("chameleon", "I|'|LL| pay| |$|1|2|3|4|5|.|6|7| for|  |Servers|!|\n|\n|  |x|\t|y| "),
            ("superbpe", "I'LL pay $|12|345|.|67| for  Servers!\n\n  x\ty "),
            ("youtu", "I'LL| pay| $|1|2|3|4|5|.|6|7| for| | Servers|!\n\n| | x|\ty| "),
            ("qwen35", "I|'LL| pay| $|1|2|3|4|5|.|6|7| for| | Servers|!\n\n| | x|\ty| "),
            ("tiny_aya", "I'LL| pay| $|12|345|.|67| for| | Servers|!\n\n| | x|\ty| "),
            ("exaone-moe", "I|'LL| pay| $|1|2|3|4|5|.|6|7| for| | Servers|!\n|\n| | x|\ty| "),
            ("minicpm5", "I|'LL| pay| $|123|45|.|67| for| | Servers|!\n\n| | x|\ty| "),
        ];
        for (pre, expected) in cases {
            assert_eq!(words(pre, text), expected, "{pre}");
        }
        assert!(Splitting::named("gibberish").is_none());
    }

    /// As above.
    #[test]
    fn other_scripts_are_split_as_the_models_own_patterns_do() {
        let text = "Größe e\u{301} 漢字テ 가 a/b_c\r\n123456 don't  (x).  ";
        let cases = [
            ("deepseek-llm", "Gr|öß|e| e|\u{301} |漢字テ| |가| a|/|b|_|c|\r|\n|123456| don|'|t| | (|x|).|  "),
            ("deepseek-v3", "Größe| e\u{301}| |漢字テ| 가| a|/b|_c|\r\n|123|456| don|'t| | (|x|).|  "),
            ("poro-chat", "Größe| e\u{301}| 漢字テ| 가| a/b_c|\r\n|123456| don't|  (|x|).  "),
            ("gpt-4o", "Größe| e\u{301}| 漢字テ| 가| a|/b|_c|\r\n|123|456| don't| | (|x|).|  "),
            ("youtu", "Größe| e\u{301}| |漢字テ| |가| a|/b|_c|\r\n|1|2|3|4|5|6| don't| | (|x|).|  "),
            ("qwen35", "Größe| e\u{301}| 漢字テ| 가| a|/b|_c|\r\n|1|2|3|4|5|6| don|'t| | (|x|).|  "),
            ("exaone-moe", "Größe e\u{301} 漢字テ 가 a|/b|_c|\r\n|1|2|3|4|5|6| don|'t| | (|x|).|  "),
        ];
        for (pre, expected) in cases {
            assert_eq!(words(pre, text), expected, "{pre}");
        }
    }

    /// `ignore_merges` and `add_bos` of llama.cpp (`llama-vocab.cpp`).
    #[test]
    fn whole_words_and_bos_are_as_in_llama_cpp() {
        let cases = [
            ("llama-bpe", true, true),
            ("tekken", true, true),
            ("youtu", true, false),
            ("minicpm5", true, false),
            ("chameleon", false, true),
            ("smaug-bpe", false, false),
            ("megrez", false, false),
            ("qwen2", false, false),
            ("gpt-2", false, false),
        ];
        for (pre, whole_words, adds_bos) in cases {
            let rules = Splitting::named(pre).unwrap();
            assert_eq!((rules.whole_words, rules.adds_bos), (whole_words, adds_bos), "{pre}");
        }
        // The patterns of Llama 3 and of Qwen 2.
        for (pre, expected) in [("smaug-bpe", "a|123|45"), ("megrez", "a|1|2|3|4|5")] {
            assert_eq!(words(pre, "a12345"), expected, "{pre}");
        }
    }
}
