//! What the steps of a chat report, and what they do at the edges of the context.

use paddock_engine::backend::{Cpu, Device, Sampling, Segments};
use paddock_engine::generate::{Chat, GenerateOptions, Session, Step, TokenFacts};
use paddock_engine::model::CausalLm;
use paddock_engine::prompt::{Message, Role, Template, TemplateKind};
use paddock_engine::tokenizer::{Beside, Tokenizer, TokenizerFiles};
use paddock_engine::weights::Checkpoint;
use paddock_tests::{block_on, fixture_source, fixtures};

const FIXTURE: &str = "llama-gqa-tied-sharded";

async fn chat_of(context: usize) -> (Chat<Cpu>, Template) {
    let chat = Chat::load(&Cpu::with_threads(2), fixture_source(FIXTURE), Some(context), &mut |_| {}).await.unwrap();
    let template = chat.template(TemplateKind::None).unwrap();
    (chat, template)
}

async fn model() -> CausalLm<Cpu> {
    let mut checkpoint = Checkpoint::open(fixture_source(FIXTURE)).await.unwrap();
    CausalLm::load(&Cpu::with_threads(2), &mut checkpoint, &mut |_| {}).await.unwrap()
}

fn options(max_tokens: usize) -> GenerateOptions {
    let sampling = Sampling { temperature: 1.0, seed: 4, repetition_penalty: 1.5, ..Sampling::default() };
    GenerateOptions { sampling, max_tokens, stop: Vec::new() }
}

async fn finish(chat: &mut Chat<Cpu>) {
    while !matches!(chat.step().await.unwrap(), Step::Done(_)) {}
}

fn turns() -> Vec<Message> {
    vec![
        Message::new(Role::User, "The quick brown fox jumps over the lazy dog."),
        Message::new(Role::Assistant, "It does."),
        Message::new(Role::User, "Where is the dog?"),
    ]
}

#[test]
fn an_answer_goes_on_in_another_chat() {
    block_on(async {
        let ids: Vec<u32> = (0..20).map(|i| 3 + i * 7).collect();
        let (mut whole, _) = chat_of(64).await;
        assert!(whole.pause().is_none(), "none was begun");
        whole.begin_ids(&ids, &options(12)).await.unwrap();
        finish(&mut whole).await;
        let expected = whole.answer().cloned().unwrap();
        assert_eq!(expected.token_ids.len(), 12);
        assert!(whole.pause().is_none(), "it has ended");

        let (mut first, _) = chat_of(64).await;
        first.begin_ids(&ids, &options(12)).await.unwrap();
        while first.answer().unwrap().token_ids.len() < 5 {
            first.step().await.unwrap();
        }
        let paused = first.pause().unwrap();
        assert!(first.step().await.is_err(), "it was taken out");
        // The other chat has read eight of the twenty-five tokens.
        let (mut second, _) = chat_of(64).await;
        second.begin_ids(&ids[..8], &options(1)).await.unwrap();
        finish(&mut second).await;
        second.resume(paused).unwrap();
        assert_eq!(second.step().await.unwrap(), Step::Reading { done: 17, total: 17 });
        finish(&mut second).await;
        assert_eq!(second.answer(), Some(&expected));
    });
}

#[test]
fn a_turn_is_left_out_when_the_answer_would_not_fit() {
    block_on(async {
        let (mut chat, template) = chat_of(512).await;
        let all = chat.begin(&turns(), &template, &options(4)).await.unwrap().tokens;
        for (room, dropped) in [(4, 0), (3, 2)] {
            let (mut chat, template) = chat_of(all + room).await;
            let begun = chat.begin(&turns(), &template, &options(4)).await.unwrap();
            assert_eq!(begun.dropped_messages, dropped, "room for {room} tokens");
        }
    });
}

#[test]
fn what_is_read_again_after_a_turn_was_left_out_is_counted() {
    block_on(async {
        let (mut chat, template) = chat_of(512).await;
        let all = chat.begin(&turns(), &template, &options(40)).await.unwrap().tokens;
        let (mut chat, template) = chat_of(all + 20).await;
        chat.begin(&turns(), &template, &options(40)).await.unwrap();
        let sequence = |chat: &Chat<Cpu>| {
            let answer = chat.answer().unwrap();
            ([answer.prompt_ids.as_slice(), &answer.token_ids].concat(), answer.dropped_messages)
        };
        let (before, after) = loop {
            let (before, _) = sequence(&chat);
            assert!(!matches!(chat.step().await.unwrap(), Step::Done(_)), "the context was never full");
            if let (after, 2) = sequence(&chat) {
                break (before, after);
            }
        };
        let kept = before.iter().zip(&after).take_while(|(before, after)| before == after).count();
        assert!(kept > 0);
        let Step::Reading { total, .. } = chat.step().await.unwrap() else { panic!("nothing was read") };
        assert_eq!(total, after.len() - kept);
    });
}

#[test]
fn a_session_counts_what_it_has_read() {
    block_on(async {
        let ids: Vec<u32> = (0..20).map(|i| 3 + i * 7).collect();
        let mut session = Session::new(model().await, 32).unwrap();
        let vocab = session.model().config().vocab_size;
        assert_eq!((session.len(), session.is_empty(), session.unread()), (0, true, 0));
        session.begin(&ids).unwrap();
        assert_eq!((session.len(), session.is_empty(), session.unread()), (0, true, 20));
        let mut logits = session.read_logits(8).await.unwrap();
        assert_eq!((logits.len(), session.len(), session.is_empty(), session.unread()), (8 * vocab, 8, false, 12));
        logits.extend(session.read_logits(16).await.unwrap());
        assert_eq!((logits.len(), session.len(), session.unread()), (20 * vocab, 20, 0));
        assert!(session.read_logits(16).await.unwrap().is_empty());
        let tokens = session.model().backend().tokens(&ids).unwrap();
        let full = session.model().forward(&tokens, &Segments::documents(&[ids.len()])).unwrap();
        assert!(logits[..] == full.values()[..]);
    });
}

async fn inspected(chat: &mut Chat<Cpu>) -> Vec<TokenFacts> {
    let mut facts = Vec::new();
    while let Some(more) = chat.step_inspection().await.unwrap() {
        facts.extend(more);
    }
    facts
}

#[test]
fn an_answer_that_fills_the_context_is_inspected() {
    block_on(async {
        let (turns, ids) = (turns(), (0..17).map(|i| 40 + i * 9).collect::<Vec<u32>>());
        let question = &turns[2..];
        let (mut chat, template) = chat_of(512).await;
        let start = chat.begin_inspection(question, &template, &ids).await.unwrap().tokens;
        let expected = inspected(&mut chat).await;
        assert_eq!(expected.iter().map(|token| token.id).collect::<Vec<_>>(), ids);
        // All but the last token of the prompt are in the cache, of which one is read again.
        let again = chat.begin_inspection(question, &template, &ids).await.unwrap();
        assert_eq!((again.tokens, again.reused), (2, start - 2));
        // The last token of the answer needs no place.
        let (mut full, template) = chat_of(start + ids.len() - 1).await;
        full.begin_inspection(question, &template, &ids).await.unwrap();
        assert_eq!(inspected(&mut full).await, expected);
    });
}

#[test]
fn an_answer_to_nothing_is_inspected_after_a_bos_only() {
    block_on(async {
        let (nothing, ids) = ([Message::new(Role::User, "")], [7, 8, 9]);
        let (mut chat, template) = chat_of(64).await;
        assert_eq!(chat.begin_inspection(&nothing, &template, &ids).await.unwrap().tokens, 1);
        assert_eq!(inspected(&mut chat).await.iter().map(|token| token.id).collect::<Vec<_>>(), ids);

        let beside = Beside::from(serde_json::json!({ "tokenizer_class": "LlamaTokenizer", "add_bos_token": false }));
        let json = std::fs::read(fixtures().join(FIXTURE).join("tokenizer.json")).unwrap();
        let tokenizer = Tokenizer::from_files(&TokenizerFiles::Json { tokenizer: json, beside }).unwrap();
        let mut chat = Chat::new(model().await, tokenizer, Some(64)).unwrap();
        let template = chat.template(TemplateKind::None).unwrap();
        let error = chat.begin_inspection(&nothing, &template, &ids).await.unwrap_err().to_string();
        assert!(error.contains("no prompt before the answer"), "{error}");
    });
}
