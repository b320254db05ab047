//! A tokenizer is several files. Ids are those of transformers 4.57.6 and 5.24.0, unless a test says whose they are.

use std::collections::BTreeMap;

use paddock_engine::prompt::{Message, Role, Template, TemplateKind};
use paddock_engine::tokenizer::{Beside, Tokenizer, TokenizerFiles};
use paddock_tests::fixture_source;
use serde_json::{Value, json};

/// GPT-2's spelling of every byte, by byte.
fn alphabet() -> Vec<String> {
    let printable = |byte: u32| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut others = 0x100..;
    let mut spelled = |byte| if printable(byte) { byte } else { others.next().unwrap() };
    (0..256).map(|byte| char::from_u32(spelled(byte)).unwrap().to_string()).collect()
}

fn added(id: u32, content: &str, special: bool) -> Value {
    json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": special })
}

/// A `tokenizer.json` with a token for each byte, 256 `<s>`, 257 `</s>` and `more` added tokens.
fn byte_level(more: &[Value], post_processor: Value) -> Vec<u8> {
    let vocabulary: BTreeMap<String, usize> = alphabet().into_iter().zip(0..).collect();
    let tokens = [&[added(256, "<s>", true), added(257, "</s>", true)], more].concat();
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let json = json!({ "version": "1.0", "added_tokens": tokens, "normalizer": null, "pre_tokenizer": bytes,
        "post_processor": post_processor, "decoder": bytes,
        "model": { "type": "BPE", "vocab": vocabulary, "merges": [] } });
    json.to_string().into_bytes()
}

fn bos_first() -> Value {
    json!({ "type": "TemplateProcessing",
        "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
        "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
        "special_tokens": { "<s>": { "id": "<s>", "ids": [256], "tokens": ["<s>"] } } })
}

fn read(tokenizer: Vec<u8>, beside: Beside) -> Tokenizer {
    Tokenizer::from_files(&TokenizerFiles::Json { tokenizer, beside }).unwrap()
}

fn sentencepiece(beside: Beside) -> Tokenizer {
    let model = fixture_source("sentencepiece").files.remove("tokenizer.model").unwrap();
    Tokenizer::from_files(&TokenizerFiles::SentencePiece { model, beside }).unwrap()
}

/// The ids of the prompt for "hi".
fn prompt(tokenizer: &Tokenizer) -> Vec<u32> {
    let template = Template::new(TemplateKind::Auto, tokenizer).unwrap();
    let prompt = template.render(&[Message::new(Role::User, "hi")]).unwrap();
    tokenizer.encode(&prompt.text, prompt.add_special).unwrap()
}

/// Ids and texts are the same after a trip through the web pack's two files.
fn assert_repacked(tokenizer: &Tokenizer, texts: &[&str]) {
    let again = read(tokenizer.to_json().unwrap().into_bytes(), Beside::from(tokenizer.to_config()));
    for text in texts {
        assert_eq!(again.encode(text, true).unwrap(), tokenizer.encode(text, true).unwrap(), "{text}");
    }
    if tokenizer.chat_template().is_some() {
        assert_eq!(prompt(&again), prompt(tokenizer));
    }
}

const TURN: &str = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}";

fn fast(more: Value) -> Value {
    let mut config = json!({ "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>" });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

#[test]
fn tokens_that_stand_beside_tokenizer_json_are_tokens() {
    let plain = || byte_level(&[], Value::Null);
    let decoder = json!({ "258": added(0, "<|im_start|>", true), "259": added(0, "<|im_end|>", true) });
    let cases = [
        Beside::from(fast(json!({ "chat_template": TURN, "added_tokens_decoder": decoder }))),
        Beside {
            added_tokens: Some(json!({ "<|im_start|>": 258, "<|im_end|>": 259 })),
            ..Beside::from(fast(json!({ "chat_template": TURN })))
        },
        Beside::from(fast(
            json!({ "chat_template": TURN, "additional_special_tokens": ["<|im_start|>", { "content": "<|im_end|>" }] }),
        )),
        Beside {
            special_tokens: Some(json!({ "additional_special_tokens": ["<|im_start|>", "<|im_end|>"] })),
            ..Beside::from(fast(json!({ "chat_template": TURN })))
        },
        Beside::from(fast(json!({ "chat_template": TURN, "sep_token": "<|im_start|>", "pad_token": "<|im_end|>" }))),
    ];
    for beside in cases {
        let case = format!("{beside:?}");
        let tokenizer = read(plain(), beside);
        assert_eq!(prompt(&tokenizer), [258, 104, 105, 259], "{case}");
        assert_repacked(&tokenizer, &["a<|im_end|>b"]);
    }
}

#[test]
fn flags_of_the_later_file_win() {
    let token = |flag: &str| {
        let mut token = added(258, "<|end|>", true);
        token[flag] = true.into();
        json!({ "added_tokens_decoder": { "258": token } })
    };
    for (flag, ids) in [("rstrip", vec![97, 32, 258, 98]), ("lstrip", vec![97, 258, 32, 32, 98])] {
        for special in [false, true] {
            let earlier = byte_level(&[added(258, "<|end|>", special)], Value::Null);
            let tokenizer = read(earlier, Beside::from(fast(token(flag))));
            assert_eq!(tokenizer.encode("a <|end|>  b", true).unwrap(), ids, "{flag}, special {special}");
            assert_repacked(&tokenizer, &["a <|end|>  b"]);
        }
    }
}

/// Tokens that only a list of special tokens names, and what is before and after them.
#[test]
fn flags_of_a_special_token_hold_wherever_it_is_named() {
    let end = |flag: &str| {
        let mut token = json!({ "content": "<|x|>", "special": true, "lstrip": false, "rstrip": false, "normalized": false,
            "single_word": false });
        token[flag] = true.into();
        token
    };
    let named = |token: Value| json!({ "eos_token": token });
    let plain = || named("<|x|>".into());
    const RIGHT: [u32; 15] = [97, 32, 32, 258, 98, 32, 32, 257, 32, 32, 99, 32, 32, 258, 100];
    const LEFT: [u32; 13] = [97, 258, 32, 32, 98, 32, 32, 257, 32, 32, 99, 258, 100];
    const NEITHER: [u32; 17] = [97, 32, 32, 258, 32, 32, 98, 32, 32, 257, 32, 32, 99, 32, 32, 258, 100];
    for (config, map, ids) in [
        (json!({}), named(end("rstrip")), &RIGHT[..]),
        (json!({}), named(end("lstrip")), &LEFT),
        (json!({}), json!({ "additional_special_tokens": [end("rstrip")] }), &RIGHT),
        (json!({}), json!({ "additional_special_tokens": ["<|x|>"] }), &NEITHER),
        (named(end("rstrip")), json!({}), &RIGHT),
        (json!({ "additional_special_tokens": [end("rstrip")] }), json!({}), &RIGHT),
        (json!({ "extra_special_tokens": { "x_token": end("rstrip") } }), json!({}), &RIGHT),
        // The map comes later.
        (plain(), named(end("rstrip")), &RIGHT),
        (named(end("rstrip")), plain(), &NEITHER),
        (named(end("rstrip")), named(end("lstrip")), &LEFT),
        // With added_tokens_decoder it is not read, and the decoder's own flags hold.
        (json!({ "added_tokens_decoder": { "258": end("special") } }), named(end("rstrip")), &NEITHER),
    ] {
        let mut all = json!({ "tokenizer_class": "PreTrainedTokenizerFast" });
        all.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        let beside = Beside { special_tokens: Some(map.clone()), ..Beside::from(all) };
        let tokenizer = read(byte_level(&[], Value::Null), beside);
        const TEXT: &str = "a  <|x|>  b  </s>  c  <|x|>d";
        assert_eq!(tokenizer.encode(TEXT, true).unwrap(), ids, "{config}, {map}");
        assert_repacked(&tokenizer, &[TEXT]);
    }
}

#[test]
fn special_tokens_of_any_file_reach_the_template() {
    let print = |names: &str| {
        let print = names.split(' ').map(|name| format!("{{{{ {name} }}}}")).collect::<String>();
        json!({ "tokenizer_class": "PreTrainedTokenizerFast", "chat_template": print + "{{ messages[0].content }}" })
    };
    let map = json!({ "bos_token": "<s>", "eos_token": { "content": "</s>", "lstrip": false } });
    let in_map = Beside { special_tokens: Some(map), ..Beside::from(print("bos_token eos_token")) };
    let tokenizer = read(byte_level(&[], Value::Null), in_map);
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(256), Some(257)));
    assert_eq!(prompt(&tokenizer), [256, 257, 104, 105]);
    assert_repacked(&tokenizer, &["a</s>"]);

    let mut config = print("unk_token pad_token additional_special_tokens[0]");
    config["unk_token"] = "</s>".into();
    config["pad_token"] = "<s>".into();
    config["additional_special_tokens"] = json!(["</s>"]);
    let tokenizer = read(byte_level(&[], Value::Null), Beside::from(config));
    assert_eq!(prompt(&tokenizer), [257, 256, 257, 104, 105]);
    assert_repacked(&tokenizer, &["a</s>"]);
}

#[test]
fn a_fast_class_follows_its_post_processor() {
    for flags in
        [json!({ "add_eos_token": false }), json!({ "add_bos_token": false }), json!({ "add_eos_token": true })]
    {
        let tokenizer = read(byte_level(&[], bos_first()), Beside::from(fast(flags.clone())));
        assert_eq!(tokenizer.encode("ab", true).unwrap(), [256, 97, 98], "{flags}");
    }
    // transformers 4 alone: its LLaMA class makes a post-processor of the flags.
    let llama = json!({ "tokenizer_class": "LlamaTokenizerFast", "add_eos_token": true });
    let tokenizer = read(byte_level(&[], Value::Null), Beside::from(llama));
    assert_eq!(tokenizer.encode("ab", true).unwrap(), [256, 97, 98, 257]);
}

#[test]
fn gpt2s_class_takes_the_prefix_from_its_flag() {
    let spaced = |prefix: bool| {
        let mut json: Value = serde_json::from_slice(&byte_level(&[], Value::Null)).unwrap();
        json["pre_tokenizer"]["add_prefix_space"] = prefix.into();
        json.to_string().into_bytes()
    };
    let ids = |prefix: bool, class: &str, flag: Value| {
        let config = json!({ "tokenizer_class": class, "add_prefix_space": flag });
        read(spaced(prefix), Beside::from(config)).encode("a", true).unwrap()
    };
    for prefix in [true, false] {
        assert_eq!(ids(prefix, "GPT2Tokenizer", Value::Null), [97]);
        assert_eq!(ids(prefix, "GPT2TokenizerFast", true.into()), [32, 97]);
        assert_eq!(ids(prefix, "GPT2Tokenizer", false.into()), [97]);
    }
    // transformers 5; 4 goes by the flag here, too.
    assert_eq!(ids(true, "PreTrainedTokenizerFast", Value::Null), [32, 97]);
}

#[test]
fn llamas_class_takes_the_prefix_from_its_flag() {
    let config = |more: Value| {
        let mut config = json!({ "tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>" });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Beside::from(config)
    };
    // As converters write it for old and for new vocabularies.
    for legacy in [true, false] {
        let file = |flags: Value| sentencepiece(config(flags)).to_json().unwrap().into_bytes();
        let spaced = file(json!({ "legacy": legacy }));
        let bare = file(json!({ "legacy": legacy, "add_prefix_space": false }));
        for json in [&spaced, &bare] {
            let without = read(json.clone(), config(json!({ "add_prefix_space": false })));
            assert_eq!(without.encode("hello world", true).unwrap(), [1, 260, 299, 642, 513, 352]);
            assert_eq!(without.encode("a</s>b", true).unwrap(), [1, 641, 2, 659]);
            assert_eq!(without.decode(&[260, 299, 642, 513, 352], true).unwrap(), "hello world");
            assert_repacked(&without, &["hello world", " a</s> b"]);
            let with = read(json.clone(), config(json!({ "add_prefix_space": true })));
            let plain = read(spaced.clone(), config(json!({})));
            for text in ["hello world", " a</s> b", ""] {
                let ids = plain.encode(text, true).unwrap();
                assert_eq!(with.encode(text, true).unwrap(), ids, "{text}, legacy {legacy}");
                assert_eq!(with.decode(&ids, false).unwrap(), plain.decode(&ids, false).unwrap());
            }
        }
    }
    // Other spellings of spaces are not SentencePiece's.
    let bytes = read(byte_level(&[], Value::Null), config(json!({ "add_prefix_space": true, "add_bos_token": false })));
    assert_eq!(bytes.encode("ab", true).unwrap(), [97, 98]);
    assert_eq!(bytes.decode(&[32, 97], true).unwrap(), " a");
}

#[test]
fn special_tokens_may_be_plain_text() {
    let tokenizer = read(byte_level(&[], Value::Null), Beside::from(fast(json!({ "split_special_tokens": true }))));
    assert_eq!(tokenizer.encode("a</s>b", true).unwrap(), [97, 60, 47, 115, 62, 98]);
    assert_repacked(&tokenizer, &["a</s>b"]);
}

#[test]
fn robertas_post_processor_is_read() {
    let around = json!({ "type": "RobertaProcessing", "sep": ["</s>", 257], "cls": ["<s>", 256], "trim_offsets": true,
        "add_prefix_space": false });
    let tokenizer = read(byte_level(&[], around), Beside::from(fast(json!({}))));
    assert_eq!(tokenizer.encode("ab", true).unwrap(), [256, 97, 98, 257]);
    assert_repacked(&tokenizer, &["ab"]);
}

#[test]
fn a_template_may_be_a_file_a_list_or_an_object() {
    let file = Beside { chat_template: Some("file".into()), ..Beside::from(json!({ "chat_template": "config" })) };
    let named = json!([{ "name": "tool_use", "template": "tools" }, { "name": "default", "template": "talk" }]);
    let cases = [
        (file, "file"),
        (Beside::from(json!({ "chat_template": named })), "talk"),
        (Beside::from(json!({ "chat_template": { "tool_use": "tools", "default": "talk" } })), "talk"),
    ];
    for (beside, expected) in cases {
        assert_eq!(read(byte_level(&[], Value::Null), beside.clone()).chat_template(), Some(expected));
        assert_eq!(sentencepiece(beside).chat_template(), Some(expected));
    }
    for empty in [json!(""), json!("  \n"), json!({ "default": "" })] {
        assert_eq!(sentencepiece(Beside::from(json!({ "chat_template": empty }))).chat_template(), None);
    }
    let file = Beside { chat_template: Some(String::new()), ..Beside::from(json!({ "chat_template": "config" })) };
    assert_eq!(sentencepiece(file).chat_template(), Some("config"));
}

/// Ids are those of transformers 4's slow class; 5 gives them without the "▁" after a special token.
#[test]
fn tokens_added_to_sentencepiece_are_found_anywhere() {
    let turn = "{{ '<|im_start|>' + messages[0].content + '<|im_end|>' }}";
    let config = json!({ "tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "chat_template": turn });
    let hi = sentencepiece(Beside::default()).encode("hi", false).unwrap();
    let decoder =
        json!({ "700": { "content": "<|im_start|>", "normalized": true }, "701": { "content": "<|im_end|>" } });
    let mut listed = config.clone();
    listed["added_tokens_decoder"] = decoder;
    let beside =
        Beside { added_tokens: Some(json!({ "<|im_start|>": 700, "<|im_end|>": 701 })), ..Beside::from(config) };
    for beside in [beside, Beside::from(listed)] {
        let tokenizer = sentencepiece(beside);
        assert_eq!(prompt(&tokenizer), [&[700][..], &hi, &[701]].concat());
        assert_repacked(&tokenizer, &["a<|im_end|> b"]);
    }
}

/// decapoda's `tokenizer_config.json`; ids are SentencePiece's own.
#[test]
fn an_empty_token_does_not_erase_sentencepieces_own() {
    let config = json!({ "bos_token": "", "eos_token": "", "unk_token": "", "tokenizer_class": "LLaMATokenizer",
        "model_max_length": 1e30 });
    let tokenizer = sentencepiece(Beside { special_tokens: Some(json!({})), ..Beside::from(config.clone()) });
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(1), Some(2)));
    assert_eq!(tokenizer.encode("Hello there", true).unwrap()[0], 1);

    // What special_tokens_map.json says comes later, and holds.
    let map = json!({ "bos_token": "</s>", "eos_token": "</s>", "pad_token": "[PAD]", "unk_token": "</s>" });
    let tokenizer = sentencepiece(Beside { special_tokens: Some(map), ..Beside::from(config) });
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.token_id("[PAD]")), (Some(2), Some(2), Some(700)));
}

#[test]
fn contradictions_are_told() {
    let map = json!({ "bos_token": "</s>", "pad_token": "</s>" });
    let decoder = json!({ "300": added(0, "<|x|>", true) });
    let beside = Beside {
        special_tokens: Some(map),
        added_tokens: Some(json!({ "<|y|>": 259 })),
        ..Beside::from(fast(json!({ "added_tokens_decoder": decoder })))
    };
    let tokenizer = read(byte_level(&[], Value::Null), beside);
    assert_eq!(tokenizer.bos(), Some(256), "transformers reads no special_tokens_map.json beside added_tokens_decoder");
    let notes = tokenizer.notes().join("\n");
    for part in ["bos_token", "pad_token", "<|y|>", "300"] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
    assert!(read(byte_level(&[], Value::Null), Beside::from(fast(json!({})))).notes().is_empty());
}

/// GPT-2's own files. Ids are those of transformers' GPT2Tokenizer and Qwen2Tokenizer.
#[test]
fn vocab_json_and_merges_txt_are_a_tokenizer() {
    let mut vocabulary: BTreeMap<String, u32> = alphabet().into_iter().zip(0..).collect();
    vocabulary.extend([("<s>".to_string(), 256), ("</s>".to_string(), 257), ("hi".to_string(), 258)]);
    let read = |class: &str, config: Value, merges: &str| {
        let mut config = config;
        config["tokenizer_class"] = class.into();
        Tokenizer::from_files(&TokenizerFiles::Gpt2 {
            vocabulary: serde_json::to_vec(&vocabulary).unwrap(),
            merges: merges.as_bytes().to_vec(),
            beside: Beside::from(config),
        })
    };
    let opt = json!({ "bos_token": "</s>", "eos_token": { "content": "</s>" }, "add_bos_token": true });
    for merges in ["#version: 0.2\nh i\n", "h i", "#version: 0.2\r\nh i\r\n"] {
        let tokenizer = read("GPT2Tokenizer", opt.clone(), merges).unwrap();
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(257), Some(257)));
        assert_eq!(tokenizer.encode("hi</s>h", true).unwrap(), [257, 258, 257, 104]);
        assert_eq!(tokenizer.decode(&[257, 258], true).unwrap(), "hi");
        assert_repacked(&tokenizer, &["hi</s>h 12"]);
    }
    let spaced = json!({ "add_prefix_space": true });
    assert_eq!(read("GPT2Tokenizer", spaced, "").unwrap().encode("h", true).unwrap(), [32, 104]);
    let composed = read("Qwen2Tokenizer", json!({}), "").unwrap().encode("e\u{301}", true).unwrap();
    assert_eq!(composed, [0xC3, 0xA9]);

    let error = read("GPT2Tokenizer", json!({}), "hi").err().unwrap().to_string();
    assert!(error.contains("merges.txt") && error.contains("hi"), "{error}");
    let error = read("GPT2Tokenizer", json!({}), "h x").err().unwrap().to_string();
    assert!(error.contains("merges.txt"), "{error}");
}
