//! A chat template: whether it renders, whether its text survives the tokenizer, and whether an answer ends.

use paddock_engine::prompt::{Message, Prompt, Role, Template, TemplateKind};
use paddock_engine::tokenizer::Tokenizer;

use super::Section;
use super::tokens::{list, named};

/// An answer that no template writes by itself.
const ANSWER: &str = "Forty-two llamas.";

/// The sections "template" and "ending". `kind` is the format that a pack names; `ends` are the ids that end an answer.
pub(super) fn examine(tokenizer: &Tokenizer, kind: TemplateKind, ends: &[u32]) -> Vec<Section> {
    let mut section = Section::new("template");
    match (kind, tokenizer.chat_template()) {
        (TemplateKind::Auto, None) => section.note("none: a prompt goes in as it is, as for a base model"),
        (TemplateKind::Auto, Some(source)) => {
            section.good(format!("the model's own, {} characters", source.chars().count()))
        }
        (kind, _) => section.good(format!("{kind}, as the pack says")),
    }
    let template = match Template::new(kind, tokenizer) {
        Ok(template) => template,
        Err(error) => {
            section.bad(error.to_string());
            return vec![section];
        }
    };
    let question = [Message::new(Role::User, "How many llamas are there?")];
    let rendered = template.render(&question);
    match &rendered {
        Ok(prompt) => {
            section.good(format!("a question is rendered as {:?}", prompt.text));
            round_trip(tokenizer, prompt, &mut section);
        }
        Err(error) => section.bad(format!("a question cannot be rendered: {error}")),
    }
    let system = [&[Message::new(Role::System, "Be brief.")][..], &question].concat();
    match template.render(&system) {
        Ok(_) => section.good("a system message has its place"),
        Err(error) => section.note(format!("a system message is refused: {error}")),
    }
    let mut ending = Section::new("ending");
    if ends.is_empty() {
        ending.bad("nothing ends an answer: no file names an end-of-sequence token");
    } else {
        ending.good(format!("an answer ends with {}", list(tokenizer, ends)));
    }
    if !template.continues() && rendered.is_ok() {
        match template.render_answered(&question, ANSWER, "") {
            Ok(whole) => answer_ends(tokenizer, &whole, ends, &mut ending),
            Err(error) => ending.note(format!("an answered question cannot be rendered: {error}")),
        }
    }
    vec![section, ending]
}

fn round_trip(tokenizer: &Tokenizer, prompt: &Prompt, section: &mut Section) {
    let ids = match tokenizer.encode(&prompt.text, prompt.add_special) {
        Ok(ids) => ids,
        Err(error) => return section.bad(format!("it cannot be written in the vocabulary: {error}")),
    };
    let bos = ids.iter().take_while(|id| Some(**id) == tokenizer.bos()).count();
    let texts_begin = tokenizer.encode("a", true).is_ok_and(|ids| ids.first().copied() == tokenizer.bos());
    match (bos, tokenizer.bos()) {
        (0, Some(bos)) if texts_begin => {
            section.note(format!("it does not begin with {}, as other texts do", named(tokenizer, bos)))
        }
        (2.., Some(bos)) => section.bad(format!("it begins with {} more than once", named(tokenizer, bos))),
        _ => {}
    }
    let decoded = tokenizer.decode(if prompt.add_special { &ids[bos..] } else { &ids }, false);
    match decoded {
        Ok(text) if text == prompt.text => section.good(format!("it is {} tokens and reads back", ids.len())),
        Ok(text) if without_spaces(&text) == without_spaces(&prompt.text) => {
            section.note(format!("it is {} tokens and reads back with other spaces: {text:?}", ids.len()));
        }
        Ok(text) => section.bad(format!("it reads back as {text:?}")),
        Err(error) => section.bad(format!("it does not read back: {error}")),
    }
    for mark in marks(&prompt.text) {
        if tokenizer.token_id(mark).is_none() {
            section.bad(format!("{mark} is no token of the vocabulary and is cut into pieces"));
        }
    }
}

fn without_spaces(text: &str) -> String {
    text.chars().filter(|c| *c != ' ').collect()
}

/// What looks like a special token, `<|…|>`, each once.
fn marks(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (start, _) in text.match_indices("<|") {
        let rest = &text[start..];
        let Some(end) = rest.find("|>") else { break };
        let mark = &rest[..end + 2];
        if !mark.contains(char::is_whitespace) && !found.contains(&mark) {
            found.push(mark);
        }
    }
    found
}

/// What the template writes after an answer must be a token that ends generation.
fn answer_ends(tokenizer: &Tokenizer, whole: &Prompt, ends: &[u32], section: &mut Section) {
    let Some(start) = whole.text.rfind(ANSWER) else {
        return section.bad("the template leaves out the answer of a conversation");
    };
    let tail = &whole.text[start + ANSWER.len()..];
    let next = tokenizer.encode(tail, false).ok().and_then(|ids| {
        let is_space = |id: &u32| tokenizer.decode(&[*id], false).is_ok_and(|text| text.trim().is_empty());
        ids.into_iter().find(|id| !is_space(id))
    });
    match next {
        None => section.note(
            "the template writes nothing after an answer; a model that was tuned with it ends only if its training added \
             an end of its own",
        ),
        Some(id) if ends.contains(&id) => {
            section.good(format!("the template ends an answer with {}, which ends it here too", named(tokenizer, id)));
        }
        Some(_) => section.bad(format!(
            "the template ends an answer with {tail:?}, which does not end it here, so that answers may run on; add the \
             token's id to eos_token_id in generation_config.json, or use --stop"
        )),
    }
}
