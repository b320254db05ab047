//! Prompts equal those of Jinja2 as transformers sets it up, and a broken template is one sentence.

use paddock_engine::prompt::{Message, Role, Template, TemplateKind};
use paddock_engine::tokenizer::{Beside, Tokenizer, TokenizerFiles};
use paddock_engine::weights::Checkpoint;
use paddock_tests::{block_on, fixture_source, folder_source, smollm2};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Expected {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    messages: Vec<Message>,
    text: Option<String>,
    refused: Option<String>,
}

/// A tokenizer with "<s>" and "</s>" whose model has this chat template.
fn tokenizer(chat_template: Option<&str>) -> Tokenizer {
    tokenizer_with(json!({ "bos_token": "<s>", "eos_token": { "content": "</s>" } }), chat_template)
}

fn tokenizer_with(config: Value, chat_template: Option<&str>) -> Tokenizer {
    let vocabulary = json!({ "<s>": 0, "</s>": 1 });
    let decoder = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true });
    let model = json!({ "model": { "type": "BPE", "vocab": vocabulary, "merges": [] }, "decoder": decoder });
    let files = TokenizerFiles::Json {
        tokenizer: model.to_string().into_bytes(),
        beside: Beside { config: Some(config), chat_template: chat_template.map(str::to_owned), ..Beside::default() },
    };
    Tokenizer::from_files(&files).unwrap()
}

fn template(kind: TemplateKind, chat_template: Option<&str>) -> paddock_engine::Result<Template> {
    Template::new(kind, &tokenizer(chat_template))
}

fn user(text: &str) -> Vec<Message> {
    vec![Message::new(Role::User, text)]
}

#[test]
fn chat_templates_give_the_text_of_jinja2() {
    let source = fixture_source("chat-templates");
    let expected: Expected = serde_json::from_slice(&source.files["expected.json"]).unwrap();
    assert!(expected.cases.iter().any(|case| case.refused.is_some()));
    for case in expected.cases {
        let name = format!("{} with {} messages", case.template, case.messages.len());
        let text = std::str::from_utf8(&source.files[&case.template]).unwrap();
        let rendered = template(TemplateKind::Auto, Some(text)).unwrap().render(&case.messages);
        match (case.text, case.refused) {
            (Some(text), _) => {
                let prompt = rendered.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(prompt.text, text, "{name}");
                assert!(!prompt.add_special, "{name}: chat templates write BOS themselves");
            }
            (None, reason) => {
                let error = rendered.expect_err(&name).to_string();
                assert!(error.contains(&reason.unwrap()), "{name}: {error}");
            }
        }
    }
}

/// What templates borrow from Python, one thing each.
#[test]
fn expressions_give_the_text_of_jinja2() {
    #[derive(Deserialize)]
    struct Expressions {
        cases: Vec<Expression>,
    }
    #[derive(Deserialize)]
    struct Expression {
        template: String,
        text: String,
    }
    let expected = fixture_source("chat-templates").files.remove("expressions.json").unwrap();
    let mut wrong = Vec::new();
    for Expression { template, text } in serde_json::from_slice::<Expressions>(&expected).unwrap().cases {
        let config = json!({ "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>",
            "additional_special_tokens": ["<|im_end|>"] });
        let rendered = Template::new(TemplateKind::Auto, &tokenizer_with(config, Some(&template)))
            .and_then(|template| template.render(&user("Hello")));
        match rendered {
            Ok(prompt) if prompt.text == text => {}
            Ok(prompt) => wrong.push(format!("{template}: expected {text:?}, found {:?}", prompt.text)),
            Err(error) => wrong.push(format!("{template}: expected {text:?}, found {error}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_broken_template_is_one_sentence() {
    let cases = [
        ("{% for message in messages %}", "syntax error"),
        ("{{ nonsense(messages) }}", "nonsense"),
        ("{{ messages[0].content.frobnicate() }}", "frobnicate"),
        ("{{ messages[0].content.split('') }}", "separator"),
        ("{{ messages | nonsense }}", "nonsense"),
        ("{% set x = missing.thing %}{{ x }}", "undefined"),
    ];
    for (source, part) in cases {
        let result = template(TemplateKind::Auto, Some(source)).and_then(|template| template.render(&user("Hello")));
        let error = result.expect_err(source).to_string();
        assert!(error.contains(part) && error.starts_with("chat template:") && !error.contains('\n'), "{error}");
    }
}

/// A template is a stranger's program: whatever it does, it comes to an end, and soon.
#[test]
fn a_template_that_does_not_end_is_one_sentence() {
    let ten = "0,1,2,3,4,5,6,7,8,9";
    let cases = [
        "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}".to_string(),
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}".to_string(),
        "{{ 'x' * 1000000000000 }}".to_string(),
        "{% set x = 'x' * 100000 %}{{ x.replace('', x) }}".to_string(),
        "{% set x = 'x' * 100000 %}{{ x.strip(x) }}".to_string(),
        "{% set x = 'x' * 10000000 %}{{ x.join([1] * 10000) }}".to_string(),
        "{{ messages | tojson(indent=100000000000) }}".to_string(),
        "{{ '%1000000000d' % 1 }}".to_string(),
        "{{ '{:1000000000}'.format(1) }}".to_string(),
        "{{ 'a'.center(100000000000) }}".to_string(),
        "{{ ('\t' * 100000).expandtabs(1000000) }}".to_string(),
        "{{ ('%s' * 10000) % ('x' * 1000000) }}".to_string(),
        format!("{{% set a = [{ten}] %}}")
            + &["ab", "bc", "cd", "de", "ef", "fg", "gh"]
                .map(|pair| {
                    format!("{{% set {1} = [{0},{0},{0},{0},{0},{0},{0},{0},{0},{0}] %}}", &pair[..1], &pair[1..])
                })
                .concat()
            + "{{ h | tojson }}",
        "{% macro again() %}{{ again() }}{{ again() }}{% endmacro %}{{ again() }}".to_string(),
    ];
    for source in &cases {
        let error = template(TemplateKind::Auto, Some(source)).unwrap().render(&user("Hello")).expect_err(source);
        let error = error.to_string();
        assert!(error.starts_with("chat template: ") && error.ends_with("such as none"), "{source}: {error}");
    }
    let long = "Grass. ".repeat(100_000);
    let source = "{% for message in messages %}{{ message.content.strip() + '\n' }}{% endfor %}{{ messages | tojson }}";
    let prompt = template(TemplateKind::Auto, Some(source)).unwrap().render(&user(&long)).unwrap();
    assert!(prompt.text.len() > 2 * long.len() - 10, "what is merely long passes");
}

#[test]
fn the_date_is_the_callers() {
    let source = "{{ strftime_now('%d %b %Y') }}";
    let undated = template(TemplateKind::Auto, Some(source)).unwrap();
    assert_eq!(undated.render(&user("Hello")).unwrap().text, "26 Jul 2024");
    assert_eq!(undated.at(951_782_400).render(&user("Hello")).unwrap().text, "29 Feb 2000");
}

#[test]
fn without_a_chat_template_auto_is_raw() {
    for kind in [TemplateKind::Auto, TemplateKind::None] {
        let raw = template(kind, None).unwrap();
        let prompt = raw.render(&user("Once upon a time")).unwrap();
        assert_eq!((prompt.text.as_str(), prompt.add_special), ("Once upon a time", true));
        let turns = [user("One "), vec![Message::new(Role::Assistant, "two ")], user("three")].concat();
        assert_eq!(raw.render(&turns).unwrap().text, "One two three");
        assert!(raw.render(&[]).unwrap_err().to_string().contains("no message"));
    }
    let raw = template(TemplateKind::None, Some("{{ 'chat' }}")).unwrap();
    assert_eq!(raw.render(&user("Hello")).unwrap().text, "Hello");
}

#[test]
fn fixed_formats_do_not_depend_on_the_model() {
    let alpaca = template(TemplateKind::Alpaca, Some("{{ 'chat' }}")).unwrap();
    let prompt = alpaca.render(&user("List three fruits.")).unwrap();
    assert!(prompt.add_special && prompt.text.ends_with("### Instruction:\nList three fruits.\n\n### Response:"));
    assert_eq!(alpaca.stops(), ["### Instruction:"]);
    let safe_rlhf = template(TemplateKind::SafeRlhf, None).unwrap();
    let turns = [user("hello"), vec![Message::new(Role::Assistant, "Hello!")], user("bye")].concat();
    let prompt = safe_rlhf.render(&turns).unwrap();
    assert!(prompt.add_special && safe_rlhf.stops().is_empty());
    assert_eq!(prompt.text, "BEGINNING OF CONVERSATION: USER: hello ASSISTANT:Hello!</s>USER: bye ASSISTANT:");
}

#[test]
fn kinds_have_one_name_everywhere() {
    for (name, kind) in TemplateKind::ALL {
        assert_eq!((name.parse::<TemplateKind>().unwrap(), kind.to_string()), (kind, name.to_string()));
        assert_eq!(serde_json::to_value(kind).unwrap(), name);
    }
    assert!("vicuna".parse::<TemplateKind>().unwrap_err().to_string().contains("safe-rlhf"));
    let message: Message = serde_json::from_value(json!({ "role": "assistant", "content": "Yes." })).unwrap();
    assert_eq!(message, Message::new(Role::Assistant, "Yes."));
}

#[test]
fn the_default_models_prompts_are_the_references() {
    #[derive(Deserialize)]
    struct Reference {
        cases: Vec<Answered>,
    }
    #[derive(Deserialize)]
    struct Answered {
        question: String,
        prompt_ids: Vec<u32>,
        greedy_ids: Vec<u32>,
        text: String,
    }
    let Some(path) = smollm2() else { return };
    let mut files = folder_source(path.parent().unwrap());
    files.files.retain(|name, _| name.ends_with(".gguf"));
    let mut checkpoint = block_on(Checkpoint::open(files)).unwrap();
    let tokenizer = Tokenizer::from_files(&block_on(checkpoint.tokenizer_files()).unwrap()).unwrap();
    let template = Template::new(TemplateKind::Auto, &tokenizer).unwrap();
    let packed = TokenizerFiles::Json {
        tokenizer: tokenizer.to_json().unwrap().into_bytes(),
        beside: Beside::from(tokenizer.to_config()),
    };
    let packed = Tokenizer::from_files(&packed).unwrap();
    let reference = fixture_source("").files.remove("smollm2_reference.json").unwrap();
    for case in serde_json::from_slice::<Reference>(&reference).unwrap().cases {
        let prompt = template.render(&user(&case.question)).unwrap();
        for tokenizer in [&tokenizer, &packed] {
            assert_eq!(tokenizer.encode(&prompt.text, prompt.add_special).unwrap(), case.prompt_ids);
            assert_eq!(tokenizer.decode(&case.greedy_ids, false).unwrap(), case.text);
        }
    }
}
