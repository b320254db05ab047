//! Ids and text equal the reference's: SentencePiece's own library, and transformers for `tokenizer.json`.

use paddock_engine::tokenizer::sentencepiece::{self, PieceKind};
use paddock_engine::tokenizer::{Beside, GgufVocabulary, Tokenizer, TokenizerFiles};
use paddock_tests::fixture_source;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Expected {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    decoded: String,
}

fn file(fixture: &str, name: &str) -> Vec<u8> {
    fixture_source(fixture).files.remove(name).unwrap_or_else(|| panic!("{fixture}/{name}"))
}

fn sentencepiece_cases() -> Vec<Case> {
    serde_json::from_slice::<Expected>(&file("sentencepiece", "expected.json")).unwrap().cases
}

/// The fixture's SentencePiece model in a folder with these other files.
fn sentencepiece_files(added_tokens: Option<Value>, config: Option<Value>) -> TokenizerFiles {
    let beside = Beside { added_tokens, config, ..Beside::default() };
    TokenizerFiles::SentencePiece { model: file("sentencepiece", "tokenizer.model"), beside }
}

fn json_files(fixture: &str) -> TokenizerFiles {
    TokenizerFiles::Json {
        tokenizer: file(fixture, "tokenizer.json"),
        beside: Beside::from(serde_json::from_slice::<Value>(&file(fixture, "tokenizer_config.json")).unwrap()),
    }
}

/// The tokenizer after a trip through the web pack's two files.
fn repacked(tokenizer: &Tokenizer) -> Tokenizer {
    let files = TokenizerFiles::Json {
        tokenizer: tokenizer.to_json().unwrap().into_bytes(),
        beside: Beside::from(tokenizer.to_config()),
    };
    Tokenizer::from_files(&files).unwrap()
}

/// What a stream gives for `ids`, put together.
fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let mut stream = tokenizer.stream();
    let mut text: String = ids.iter().map(|&id| stream.push(tokenizer, id)).collect();
    text += &stream.finish();
    text
}

fn assert_golden(mut tokenizer: Tokenizer) {
    // The reference library reads "</s>" in a text as four characters.
    tokenizer.read_special_as_text(true);
    for Case { text, ids, decoded } in sentencepiece_cases() {
        assert_eq!(tokenizer.encode(&text, false).unwrap(), ids, "{text:?}");
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), decoded, "{text:?}");
        assert_eq!(streamed(&tokenizer, &ids), decoded, "{text:?}");
    }
}

#[test]
fn sentencepiece_models_give_the_librarys_ids_and_text() {
    let tokenizer = Tokenizer::from_files(&sentencepiece_files(None, None)).unwrap();
    assert_eq!(tokenizer.kind(), "SentencePiece BPE");
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.vocab_size()), (Some(1), Some(2), 700));
    assert_golden(repacked(&tokenizer));
    assert_golden(tokenizer);
}

#[test]
fn gguf_vocabularies_of_sentencepiece_give_the_librarys_ids_and_text() {
    let model = sentencepiece::parse(&file("sentencepiece", "tokenizer.model")).unwrap();
    let number = |kind| match kind {
        PieceKind::Normal => 1,
        PieceKind::Unknown => 2,
        PieceKind::Control => 3,
        PieceKind::UserDefined => 4,
        PieceKind::Unused => 5,
        PieceKind::Byte => 6,
    };
    let vocabulary = GgufVocabulary {
        model: "llama".into(),
        tokens: model.pieces.iter().map(|piece| piece.text.clone()).collect(),
        scores: model.pieces.iter().map(|piece| piece.score).collect(),
        token_types: model.pieces.iter().map(|piece| number(piece.kind)).collect(),
        bos: Some(1),
        eos: Some(2),
        unknown: Some(0),
        ..GgufVocabulary::default()
    };
    let tokenizer = Tokenizer::from_files(&TokenizerFiles::Gguf(vocabulary)).unwrap();
    assert_eq!(tokenizer.encode("Hello world", true).unwrap()[0], 1);
    assert_golden(repacked(&tokenizer));
    assert_golden(tokenizer);
}

#[test]
fn special_tokens_and_added_ones_stand_for_themselves() {
    let config = json!({ "pad_token": "[PAD]", "chat_template": [
        { "name": "tool_use", "template": "tools" }, { "name": "default", "template": "talk" }
    ] });
    let added = json!({ "[PAD]": 700 });
    let tokenizer = Tokenizer::from_files(&sentencepiece_files(Some(added), Some(config.clone()))).unwrap();
    let hello = tokenizer.encode("Hello world", false).unwrap();
    let ids = tokenizer.encode("Hello world</s>Hello world[PAD]", true).unwrap();
    assert_eq!(ids, [&[1][..], &hello, &[2], &hello, &[700]].concat());
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), "<s> Hello world</s> Hello world[PAD]");
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "Hello world Hello world");
    assert_eq!((tokenizer.vocab_size(), tokenizer.chat_template()), (701, Some("talk")));
    let again = repacked(&tokenizer);
    assert_eq!(again.encode("Hello world</s>Hello world[PAD]", true).unwrap(), ids);
    assert_eq!((again.vocab_size(), again.chat_template()), (701, Some("talk")));

    let gap = sentencepiece_files(Some(json!({ "[PAD]": 702 })), None);
    let error = Tokenizer::from_files(&gap).err().unwrap().to_string();
    assert!(error.contains("[PAD]") && error.contains("702"), "{error}");
}

#[test]
fn newer_configurations_put_the_prefix_before_the_first_word_only() {
    let config = json!({ "legacy": false, "add_bos_token": false, "add_eos_token": true });
    let tokenizer = Tokenizer::from_files(&sentencepiece_files(None, Some(config))).unwrap();
    let ids = tokenizer.encode("</s>Hello world", true).unwrap();
    assert_eq!((ids[0], ids.last()), (2, Some(&2)));
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), "</s>Hello world</s>");
}

#[test]
fn tokenizer_json_gives_the_ids_of_transformers() {
    for fixture in ["llama-mha", "llama-gqa-tied-sharded", "llama3-rope"] {
        let tokenizer = Tokenizer::from_files(&json_files(fixture)).unwrap();
        let expected: Value = serde_json::from_slice(&file(fixture, "expected.json")).unwrap();
        let cases = expected["cases"].as_array().unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let ids: Vec<u32> = serde_json::from_value(case["prompt_ids"].clone()).unwrap();
            let text = case["prompt_text"].as_str().unwrap();
            assert_eq!(tokenizer.encode(text, true).unwrap(), ids, "{fixture}: {text}");
            assert_eq!(repacked(&tokenizer).encode(text, true).unwrap(), ids, "{fixture}: {text}");
            assert_eq!(tokenizer.encode(text, false).unwrap(), ids[1..], "{fixture}: {text}");
            assert_eq!(streamed(&tokenizer, &ids), text);
        }
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(2)));
    }
}

#[test]
fn streamed_pieces_are_whole_characters_and_make_the_text() {
    let tokenizer = Tokenizer::from_files(&sentencepiece_files(None, None)).unwrap();
    let mut random = 1_u64;
    let alphabet: Vec<char> = "aeinrst .,\n\t▁<>0x7Aéß中文字🦙👩\u{200d}🚀العربية\u{fffd}\0".chars().collect();
    for length in (0..400).map(|case| case % 40) {
        let text: String = (0..length)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                alphabet[(random >> 33) as usize % alphabet.len()]
            })
            .collect();
        let ids = tokenizer.encode(&text, false).unwrap();
        // SentencePiece has one character for the space and its own sign.
        assert_eq!(streamed(&tokenizer, &ids), text.replace('▁', " "));
    }
    // Cut anywhere, the text is the same as far as it goes, and never half a character.
    let ids = tokenizer.encode("naïve 🦙🦫 日本", false).unwrap();
    for end in 0..ids.len() {
        let mut stream = tokenizer.stream();
        let text: String = ids[..end].iter().map(|&id| stream.push(&tokenizer, id)).collect();
        assert!("naïve 🦙🦫 日本".starts_with(&text), "{text}");
        let rest = stream.finish();
        assert!(rest.is_empty() || rest == "\u{fffd}", "{rest}");
    }
}

#[test]
fn unknown_ids_are_refused_when_decoding_and_skipped_in_a_stream() {
    let tokenizer = Tokenizer::from_files(&sentencepiece_files(None, None)).unwrap();
    let error = tokenizer.decode(&[700], true).unwrap_err().to_string();
    assert!(error.contains("700") && !error.contains('\n'), "{error}");
    assert_eq!(streamed(&tokenizer, &[700, 552, 474, 642, 513, 352]), "Hello world");
}

#[test]
fn damaged_files_are_refused_with_a_sentence() {
    let json = |text: &str| TokenizerFiles::Json { tokenizer: text.as_bytes().to_vec(), beside: Beside::default() };
    let bpe = r#"{"model":{"type":"BPE","vocab":{"a":0},"merges":[]},"decoder":{"type":"Fuse"},"#;
    let gguf = |model: &str, pre: &str, merges: &[&str], types: &[i32]| {
        TokenizerFiles::Gguf(GgufVocabulary {
            model: model.into(),
            pre: Some(pre.into()),
            tokens: vec!["a".into(), "b".into()],
            merges: merges.iter().map(|merge| merge.to_string()).collect(),
            token_types: types.to_vec(),
            ..GgufVocabulary::default()
        })
    };
    let around = r#""post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}}],"pair":[],"special_tokens":{}}}"#;
    let mut truncated = file("sentencepiece", "tokenizer.model");
    truncated.truncate(5000);
    let cases = [
        (json("{"), "tokenizer.json"),
        (json(r#"{"model":{"type":"WordPiece","vocab":{}}}"#), "WordPiece"),
        (json(r#"{"model":{"type":"BPE","vocab":{"a":4000000000},"merges":[]},"decoder":{"type":"Fuse"}}"#), "absurd"),
        (json(r#"{"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}}"#), "tokenizer.json"),
        (json(r#"{"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}"#), "decoder"),
        (json(&format!("{bpe}{around}")), "<s>"),
        (json(&format!(r#"{bpe}"post_processor":{{"type":"Frobnicate"}}}}"#)), "tokenizer.json"),
        (gguf("gpt2", "gibberish", &[], &[]), "gibberish"),
        (gguf("bert", "default", &[], &[]), "bert"),
        (gguf("llama", "default", &[], &[]), "scores"),
        (gguf("gpt2", "default", &["ab"], &[]), "not a pair"),
        (gguf("gpt2", "default", &["a c"], &[]), "vocabulary"),
        (gguf("gpt2", "default", &[], &[1]), "token types"),
        (gguf("gpt2", "default", &[], &[1, 77]), "77"),
        (TokenizerFiles::SentencePiece { model: truncated, beside: Beside::default() }, "tokenizer.model"),
    ];
    for (files, part) in cases {
        let error = Tokenizer::from_files(&files).err().unwrap_or_else(|| panic!("{part}: accepted")).to_string();
        assert!(error.contains(part) && !error.contains('\n'), "{part}: {error}");
    }
}

/// A GGUF vocabulary: a token for each byte and then `more` with their types.
fn byte_vocabulary(more: &[(&str, i32)]) -> GgufVocabulary {
    let printable = |byte: &u32| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut others = 0x100..;
    let codes = (0..256).map(|byte| if printable(&byte) { byte } else { others.next().unwrap() });
    let bytes = codes.map(|code| char::from_u32(code).unwrap().to_string());
    GgufVocabulary {
        model: "gpt2".into(),
        tokens: bytes.chain(more.iter().map(|(text, _)| (*text).to_string())).collect(),
        token_types: std::iter::repeat_n(1, 256).chain(more.iter().map(|(_, kind)| *kind)).collect(),
        ..GgufVocabulary::default()
    }
}

fn gguf(vocabulary: &GgufVocabulary) -> Tokenizer {
    Tokenizer::from_files(&TokenizerFiles::Gguf(vocabulary.clone())).unwrap()
}

/// Ids as Llama 3's own pattern gives them; llama.cpp infers nothing and warns.
#[test]
fn a_llama_3_vocabulary_without_rules_is_known_by_its_tokens() {
    let more = [("<|begin_of_text|>", 3), ("<|eot_id|>", 3), ("12", 1), ("123", 1), ("'L", 1), ("'LL", 1)];
    let merges = ["1 2", "12 3", "' L", "'L L"].map(String::from).to_vec();
    let unnamed = GgufVocabulary { merges, bos: Some(256), eos: Some(257), ..byte_vocabulary(&more) };
    let named = |pre: &str| GgufVocabulary { pre: Some(pre.into()), ..unnamed.clone() };
    let text = "12345 I'LL";
    let expected = [256, 259, 52, 53, 32, 73, 261];
    assert_eq!(gguf(&named("llama-bpe")).encode(text, true).unwrap(), expected);
    for vocabulary in [unnamed.clone(), named("default"), named("")] {
        let tokenizer = gguf(&vocabulary);
        assert_eq!(tokenizer.encode(text, true).unwrap(), expected);
        assert!(tokenizer.notes().iter().any(|note| note.contains("tokenizer.ggml.pre")), "{:?}", tokenizer.notes());
    }
    let other = GgufVocabulary { bos: Some(256), ..byte_vocabulary(&[("<s>", 3)]) };
    let tokenizer = gguf(&other);
    assert_eq!(tokenizer.encode("1", true).unwrap(), [49]);
    assert!(tokenizer.notes().join(" ").contains("answers suffer"), "{:?}", tokenizer.notes());
    assert!(gguf(&named("llama-bpe")).notes().is_empty());
}

/// As llama.cpp does it (`llama-vocab.cpp`).
#[test]
fn what_ends_an_answer_is_a_control_token_whatever_its_type() {
    for end in [
        "<|im_end|>",
        "</s>",
        "<eos>",
        "[EOS]",
        "<|return|>",
        "<|call|>",
        "<end_of_utterance>",
        "<｜end▁of▁sentence｜>",
    ] {
        for kind in [1, 4, 5] {
            let vocabulary =
                GgufVocabulary { pre: Some("gpt-2".into()), ..byte_vocabulary(&[("<s>", 3), (end, kind)]) };
            let tokenizer = gguf(&vocabulary);
            assert_eq!(tokenizer.encode(&format!("a{end}"), false).unwrap(), [97, 257], "{end}");
            assert!(tokenizer.is_special(257) && tokenizer.notes().iter().any(|note| note.contains(end)), "{end}");
        }
    }
}

/// llama.cpp takes 0, 1 and 2; the ids with them are those of the library.
#[test]
fn a_sentencepiece_vocabulary_without_ids_has_llamas_own() {
    let model = sentencepiece::parse(&file("sentencepiece", "tokenizer.model")).unwrap();
    let number = |kind| match kind {
        PieceKind::Unknown => 2,
        PieceKind::Control => 3,
        PieceKind::Byte => 6,
        _ => 1,
    };
    let vocabulary = GgufVocabulary {
        model: "llama".into(),
        tokens: model.pieces.iter().map(|piece| piece.text.clone()).collect(),
        scores: model.pieces.iter().map(|piece| piece.score).collect(),
        token_types: model.pieces.iter().map(|piece| number(piece.kind)).collect(),
        ..GgufVocabulary::default()
    };
    for vocabulary in [vocabulary.clone(), GgufVocabulary { token_types: Vec::new(), ..vocabulary.clone() }] {
        let tokenizer = gguf(&vocabulary);
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(2)));
        assert_eq!(tokenizer.encode("Hello world", true).unwrap()[0], 1);
        assert_eq!(tokenizer.notes().len(), 3, "{:?}", tokenizer.notes());
    }
    assert_golden(gguf(&vocabulary));
    let other = GgufVocabulary {
        tokens: vocabulary.tokens.iter().rev().cloned().collect(),
        token_types: vec![1; 700],
        ..vocabulary
    };
    assert_eq!((gguf(&other).bos(), gguf(&other).eos()), (None, None), "ordinary tokens are not taken for BOS and EOS");
}

/// llama.cpp warns of such an id and takes its default.
#[test]
fn ids_that_are_no_tokens_are_told_as_such() {
    let model = sentencepiece::parse(&file("sentencepiece", "tokenizer.model")).unwrap();
    let pieces = GgufVocabulary {
        model: "llama".into(),
        tokens: model.pieces.iter().map(|piece| piece.text.clone()).collect(),
        scores: model.pieces.iter().map(|piece| piece.score).collect(),
        ..GgufVocabulary::default()
    };
    for (id, words) in [
        (None, "gives no bos_token_id; as in llama.cpp it is 1"),
        (Some(5000), "gives 5000 as bos_token_id, which is none of its 700 tokens; as in llama.cpp it is 1"),
        (Some(u32::MAX), "gives -1 as bos_token_id, which is no token; as in llama.cpp it is 1"),
    ] {
        let tokenizer = gguf(&GgufVocabulary { bos: id, eos: Some(2), unknown: Some(0), ..pieces.clone() });
        assert_eq!(tokenizer.bos(), Some(1));
        let [note] = tokenizer.notes() else { panic!("{:?}", tokenizer.notes()) };
        assert!(note.contains(words), "{note}");
    }
    let tokenizer = gguf(&GgufVocabulary { pre: Some("gpt-2".into()), eos: Some(9999), ..byte_vocabulary(&[]) });
    assert_eq!(tokenizer.eos(), None);
    assert!(tokenizer.notes()[0].contains("gives 9999 as eos_token_id"), "{:?}", tokenizer.notes());
    let empty = GgufVocabulary { chat_template: Some(String::new()), ..byte_vocabulary(&[]) };
    assert_eq!(gguf(&empty).chat_template(), None);
}
