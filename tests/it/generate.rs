//! Answers as a page or a command line asks for them: a long prompt is read in steps and can be given up in between.

use paddock_engine::backend::{Backend, Cpu, Device, Sampling, Segments};
use paddock_engine::generate::{Answer, Chat, FinishReason, GenerateOptions, Step};
use paddock_engine::prompt::{Message, Role, Template, TemplateKind};
use paddock_tests::{block_on, fixture_source, gpu};

const FIXTURE: &str = "llama-gqa-tied-sharded";
/// The fixture's whole context less the answer.
const PROMPT: usize = 500;

async fn load<B: Backend>(backend: &B) -> Chat<B> {
    Chat::load(backend, fixture_source(FIXTURE), None, &mut |_| {}).await.unwrap()
}

fn prompt() -> Vec<u32> {
    (0..PROMPT as u32).map(|index| 3 + index * 7 % 200).collect()
}

fn options() -> GenerateOptions {
    GenerateOptions { sampling: Sampling::default(), max_tokens: 6, stop: Vec::new() }
}

/// Steps to the end; gives the counts of tokens read, as they were reported.
async fn finish<B: Backend>(chat: &mut Chat<B>) -> Vec<usize> {
    let mut read = Vec::new();
    loop {
        match chat.step().await.unwrap() {
            Step::Reading { done, total } => {
                assert!(done <= total);
                read.push(done);
            }
            Step::Text(_) => {}
            Step::Done(_) => return read,
        }
    }
}

async fn a_prompt_can_be_given_up<B: Backend>(backend: B) {
    let (prompt, options) = (prompt(), options());
    let mut whole = load(&backend).await;
    let prefilled = whole.begin_ids(&prompt, &options).await.unwrap();
    assert_eq!((prefilled.tokens, prefilled.reused), (PROMPT, 0));
    let read = finish(&mut whole).await;
    assert!(read.len() > 1 && read.is_sorted() && read.last() == Some(&PROMPT), "{read:?}");
    let expected = whole.answer().unwrap().clone();
    assert_eq!(expected.token_ids.len(), options.max_tokens);

    let mut chat = load(&backend).await;
    chat.begin_ids(&prompt, &options).await.unwrap();
    assert_eq!(chat.step().await.unwrap(), Step::Reading { done: read[0], total: PROMPT });
    chat.cancel();
    assert_eq!(chat.step().await.unwrap(), Step::Done(FinishReason::Cancelled));
    assert!(chat.answer().unwrap().token_ids.is_empty());

    // What was read is not read again, and the answer is the same.
    let prefilled = chat.begin_ids(&prompt, &options).await.unwrap();
    assert_eq!((prefilled.tokens, prefilled.reused), (PROMPT - read[0], read[0]));
    assert_eq!(finish(&mut chat).await.last(), Some(&(PROMPT - read[0])));
    assert_eq!(chat.answer(), Some(&expected));

    // Another prompt than the one given up starts where the two part.
    chat.begin_ids(&prompt, &options).await.unwrap();
    chat.cancel();
    let other = [&prompt[..read[0] + 3], &[7, 7, 7]].concat();
    let prefilled = chat.begin_ids(&other, &options).await.unwrap();
    assert_eq!((prefilled.tokens, prefilled.reused), (3, read[0] + 3));
    finish(&mut chat).await;
    whole.begin_ids(&[9], &options).await.unwrap();
    finish(&mut whole).await;
    whole.begin_ids(&other, &options).await.unwrap();
    finish(&mut whole).await;
    assert_eq!(chat.answer(), whole.answer());
}

#[test]
fn a_prompt_can_be_given_up_on_the_processor() {
    block_on(a_prompt_can_be_given_up(Cpu::with_threads(2)));
}

#[test]
fn a_prompt_can_be_given_up_on_a_gpu() {
    block_on(async {
        if let Some(gpu) = gpu().await {
            a_prompt_can_be_given_up(gpu).await;
        }
    });
}

/// A chat of at most `context` tokens on the CPU, and the template that leaves text as it is.
async fn chat_of(context: usize) -> (Chat<Cpu>, Template) {
    let chat = Chat::load(&Cpu::with_threads(2), fixture_source(FIXTURE), Some(context), &mut |_| {}).await.unwrap();
    let template = Template::new(TemplateKind::None, chat.tokenizer()).unwrap();
    (chat, template)
}

/// Steps to the end; gives the answer, after checking that its text is what was shown.
async fn answer(chat: &mut Chat<Cpu>) -> Answer {
    let mut shown = String::new();
    loop {
        match chat.step().await.unwrap() {
            Step::Reading { .. } => {}
            Step::Text(text) => shown += &text,
            Step::Done(_) => {
                let answer = chat.answer().unwrap().clone();
                assert_eq!(shown, answer.text);
                return answer;
            }
        }
    }
}

fn conversation(turns: &[&str]) -> Vec<Message> {
    let role = |index: usize| if index.is_multiple_of(2) { Role::User } else { Role::Assistant };
    turns.iter().enumerate().map(|(index, text)| Message::new(role(index), *text)).collect()
}

#[test]
fn the_prompt_s_own_tokens_are_penalised() {
    block_on(async {
        let (mut chat, _) = chat_of(512).await;
        // All of the vocabulary but the first twelve tokens.
        let prompt: Vec<u32> = (0..500).map(|index| 12 + index * 7 % 500).collect();
        let segments = Segments::continuation(prompt.len(), 0, 0);
        let backend = chat.model().backend().clone();
        let logits = chat.model().forward(&backend.tokens(&prompt).unwrap(), &segments).unwrap();
        let logits = backend.read(&logits).await.unwrap();
        let last = &logits[logits.len() - chat.config().vocab_size..];
        let best = |penalised: &dyn Fn(u32, f32) -> f32| {
            let ids = 0..last.len() as u32;
            ids.max_by(|a, b| penalised(*a, last[*a as usize]).total_cmp(&penalised(*b, last[*b as usize]))).unwrap()
        };
        let penalty = 5.0;
        let expected = best(&|id, logit| match (prompt.contains(&id), logit > 0.0) {
            (true, true) => logit / penalty,
            (true, false) => logit * penalty,
            (false, _) => logit,
        });
        assert_ne!(expected, best(&|_, logit| logit), "the comparison cannot fail");
        let sampling = Sampling { repetition_penalty: penalty, ..Sampling::default() };
        chat.begin_ids(&prompt, &GenerateOptions { sampling, max_tokens: 1, stop: Vec::new() }).await.unwrap();
        assert_eq!(answer(&mut chat).await.token_ids, [expected]);
    });
}

#[test]
fn text_that_a_stop_holds_back_is_shown_when_no_token_may_come() {
    block_on(async {
        let (mut chat, template) = chat_of(512).await;
        chat.begin_ids(&[5, 6, 7], &options()).await.unwrap();
        let whole = answer(&mut chat).await;
        assert_eq!(whole.finish_reason, Some(FinishReason::Length));
        // A stop that the answer's last character begins, and no more of it.
        let stop = vec![format!("{}\u{1}", whole.text.chars().next_back().unwrap())];
        let held = GenerateOptions { stop, ..options() };
        chat.begin_ids(&[5, 6, 7], &held).await.unwrap();
        assert_eq!(answer(&mut chat).await, whole);

        let question = conversation(&["Why?"]);
        chat.begin_candidates(&question, &template, &options(), 1).await.unwrap();
        while chat.candidates()[0].finish_reason.is_none() {
            chat.step_candidates().await.unwrap();
        }
        let whole = chat.candidates()[0].clone();
        let stop = vec![format!("{}\u{1}", whole.text.chars().next_back().unwrap())];
        chat.begin_candidates(&question, &template, &GenerateOptions { stop, ..options() }, 1).await.unwrap();
        while chat.candidates()[0].finish_reason.is_none() {
            chat.step_candidates().await.unwrap();
        }
        assert_eq!(*chat.candidates()[0], whole);
    });
}

#[test]
fn an_answer_goes_on_after_a_turn_was_dropped_as_if_it_had_never_been() {
    block_on(async {
        let turns = conversation(&["The quick brown fox jumps over the lazy dog.", "It does.", "Where is the dog?"]);
        let sampling = Sampling { temperature: 1.0, seed: 4, ..Sampling::default() };
        let options = GenerateOptions { sampling, max_tokens: 40, stop: Vec::new() };
        let (mut chat, template) = chat_of(512).await;
        let prompt = chat.begin(&turns, &template, &options).await.unwrap().tokens;
        // Room for half of the answer.
        let context = prompt + 20;
        let (mut chat, template) = chat_of(context).await;
        let begun = chat.begin(&turns, &template, &options).await.unwrap();
        assert_eq!((begun.tokens, begun.dropped_messages), (prompt, 0));
        let found = answer(&mut chat).await;
        assert_eq!((found.dropped_messages, found.token_ids.len()), (2, 40));

        // One token more than the context has room for was chosen when it was full.
        let before = context + 1 - prompt;
        let (mut fresh, template) = chat_of(context).await;
        let again = fresh.begin(&turns[2..], &template, &options).await.unwrap();
        assert!(again.tokens < prompt);
        assert_eq!(found.prompt_ids, fresh.answer().unwrap().prompt_ids);
        let ids = [found.prompt_ids.as_slice(), &found.token_ids[..before]].concat();
        fresh.begin_ids(&ids, &GenerateOptions { max_tokens: 40 - before, ..options }).await.unwrap();
        assert_eq!(answer(&mut fresh).await.token_ids, found.token_ids[before..]);
    });
}

#[test]
fn a_prompt_that_leaves_no_room_for_the_answer_is_taken() {
    block_on(async {
        let (mut chat, template) = chat_of(512).await;
        let question = conversation(&["The quick brown fox jumps over the lazy dog."]);
        let tokens = chat.begin(&question, &template, &options()).await.unwrap().tokens;
        let expected = answer(&mut chat).await;
        // The last token that is chosen needs no place.
        for room in [0, 2] {
            let (mut chat, template) = chat_of(tokens + room).await;
            assert_eq!(chat.begin(&question, &template, &options()).await.unwrap().tokens, tokens);
            let found = answer(&mut chat).await;
            assert_eq!((&found.token_ids[..], found.dropped_messages), (&expected.token_ids[..room + 1], 0));
            assert_eq!(found.finish_reason, Some(FinishReason::Length));
        }
        let (mut chat, template) = chat_of(tokens - 1).await;
        let error = chat.begin(&question, &template, &options()).await.unwrap_err().to_string();
        assert!(error.contains(&format!("the prompt has {tokens} tokens")), "{error}");

        // An older turn makes room for the answer, not only for the prompt.
        let turns = conversation(&["Why?", "So.", &question[0].content]);
        let (mut chat, template) = chat_of(512).await;
        let all = chat.begin(&turns, &template, &options()).await.unwrap().tokens;
        let (mut chat, template) = chat_of(all).await;
        let begun = chat.begin(&turns, &template, &options()).await.unwrap();
        assert_eq!((begun.tokens, begun.dropped_messages), (tokens, 2));
    });
}

/// The golden greedy answer, its prompt's text, and how far each of its tokens is above the next likeliest (logits).
fn golden() -> (String, Vec<u32>, Vec<f32>) {
    let text = std::fs::read(paddock_tests::fixtures().join("llama-mha/expected.json")).unwrap();
    let case = serde_json::from_slice::<serde_json::Value>(&text).unwrap()["cases"][0].take();
    let of = |name: &str| case[name].clone();
    (
        serde_json::from_value(of("prompt_text")).unwrap(),
        serde_json::from_value(of("greedy_ids")).unwrap(),
        serde_json::from_value(of("top1_minus_top2")).unwrap(),
    )
}

/// Whatever tokens an answer begins with, it goes on as if the model had chosen them.
#[test]
fn an_answer_can_begin_with_given_tokens() {
    let (prompt, ids, _) = golden();
    block_on(async {
        let mut chat = Chat::load(&Cpu::new(), fixture_source("llama-mha"), None, &mut |_| {}).await.unwrap();
        let template = chat.template(TemplateKind::None).unwrap();
        let messages = [Message::new(Role::User, &prompt)];
        let mut options = GenerateOptions { max_tokens: ids.len(), ..options() };
        chat.begin(&messages, &template, &options).await.unwrap();
        finish(&mut chat).await;
        let whole = chat.answer().unwrap().clone();
        assert_eq!(whole.token_ids, ids);
        for begun in [1, 7, ids.len() - 1] {
            options.max_tokens = ids.len() - begun;
            chat.begin_after(&messages, &template, &options, &ids[..begun]).await.unwrap();
            let mut text = String::new();
            loop {
                match chat.step().await.unwrap() {
                    Step::Text(piece) => text.push_str(&piece),
                    Step::Reading { .. } => {}
                    Step::Done(_) => break,
                }
            }
            assert_eq!(text, whole.text, "{begun} tokens were given");
            assert_eq!(chat.answer(), Some(&whole), "{begun} tokens were given");
        }
    });
}

/// The likeliest token is the greedy one, and as much likelier than the next as the reference says.
#[test]
fn the_tokens_of_an_answer_are_inspected_as_the_reference_sees_them() {
    let (prompt, ids, margins) = golden();
    block_on(async {
        let mut chat = Chat::load(&Cpu::new(), fixture_source("llama-mha"), None, &mut |_| {}).await.unwrap();
        let template = chat.template(TemplateKind::None).unwrap();
        let messages = [Message::new(Role::User, &prompt)];
        for _ in 0..2 {
            chat.begin_inspection(&messages, &template, &ids).await.unwrap();
            let mut facts = Vec::new();
            while let Some(more) = chat.step_inspection().await.unwrap() {
                facts.extend(more);
            }
            assert_eq!(facts.iter().map(|token| token.id).collect::<Vec<_>>(), ids);
            for (token, margin) in facts.iter().zip(&margins) {
                let [(first, best), (_, next), ..] = token.alternatives[..] else { panic!("five alternatives") };
                assert_eq!((first, best), (token.id, token.probability));
                assert!(((best / next).ln() - margin).abs() < 1e-3, "{best} {next} {margin}");
                assert!(token.entropy > 0.0);
            }
            // An answer in between leaves another cache behind.
            chat.begin(&messages, &template, &options()).await.unwrap();
            finish(&mut chat).await;
        }
    });
}
