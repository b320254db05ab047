//! What the chat model thinks of an answer, token by token.

use paddock_engine::backend::Backend;
use paddock_engine::generate::Chat;
use paddock_engine::prompt::{Message, TemplateKind};
use paddock_engine::{Error, Result};

use super::job::Job;
use super::scope::date;
use crate::protocol::{Inspected, Reading, Report};
use crate::turn::next_turn;

/// Looks at the tokens of an answer, reporting progress in tokens.
pub async fn inspect<B: Backend>(
    chat: &mut Chat<B>,
    messages: &[Message],
    template: TemplateKind,
    token_ids: &[u32],
    job: &Job,
) -> Result<Vec<Inspected>> {
    let template = chat.template(template)?.at(date());
    chat.begin_inspection(messages, &template, token_ids).await?;
    let tokenizer = chat.tokenizer().clone();
    let mut stream = tokenizer.stream();
    let mut inspected = Vec::with_capacity(token_ids.len());
    while let Some(found) = chat.step_inspection().await? {
        for facts in found {
            let text = |id: u32| {
                let text = stream.clone().push(&tokenizer, id);
                if text.is_empty() { tokenizer.token(id).unwrap_or_default() } else { text }
            };
            let alternatives = facts.alternatives.iter().map(|(id, _)| text(*id)).collect();
            let token = tokenizer.token(facts.id).unwrap_or_default();
            let text = stream.push(&tokenizer, facts.id);
            inspected.push(Inspected { text, token, facts, alternatives });
        }
        job.report(Report::Reading(Reading { done: inspected.len(), total: token_ids.len() }));
        next_turn().await;
        if job.stop().asked() {
            return Err(Error::Request("the look at the answer was stopped".to_string()));
        }
    }
    // JSON, and with it the protocol, has finite numbers only.
    if inspected.iter().any(|token| !token.facts.entropy.is_finite() || !token.facts.probability.is_finite()) {
        let problem = "the model's scores are not finite numbers; its pack may be damaged, so pack it again";
        return Err(Error::Request(problem.to_string()));
    }
    Ok(inspected)
}
