//! What an instruction asks for: its verb and the noun that is the verb's object ("write", "story"). The original figure
//! of Self-Instruct takes both from spaCy's parse of the first sentence; here they come from rules about how instructions are
//! worded, and a lexicon. How often the two agree is in docs/instruct.md.

mod lexicon;

/// A verb and its object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request {
    /// The verb's base form.
    pub verb: String,
    /// The singular of its object, where it has one.
    pub object: Option<String>,
}

/// A word of a sentence, or a mark.
struct Token<'a> {
    text: &'a str,
    lower: String,
}

impl Token<'_> {
    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphanumeric())
    }

    /// Whether it is written as a name is; the first word of a sentence does not tell.
    fn is_name(&self) -> bool {
        self.text.starts_with(char::is_uppercase)
    }

    fn is(&self, words: &[&str]) -> bool {
        words.contains(&self.lower.as_str())
    }
}

/// What `instruction` asks for; `None` for a question or a statement without a verb that the lexicon knows.
pub fn request(instruction: &str) -> Option<Request> {
    let tokens = first_sentence(instruction);
    let at = root(&tokens)?;
    let verb = lexicon::verb(&tokens[at].lower)?;
    Some(Request { verb, object: object(&tokens[at + 1..]) })
}

/// Words and marks up to the end of the first sentence.
fn first_sentence(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let in_word = |c: char| c.is_alphanumeric() || "'’-_/".contains(c);
        let length = match first.is_alphanumeric() {
            true => rest.find(|c| !in_word(c)).unwrap_or(rest.len()),
            false => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        let ends = match first {
            '.' | '!' | '?' => after.is_empty() || after.starts_with(char::is_whitespace),
            _ => after.starts_with("\n\n"),
        };
        tokens.push(Token { text: token, lower: token.to_lowercase() });
        if ends {
            break;
        }
        rest = after.trim_start();
    }
    tokens
}

/// The place of the verb that the sentence is about.
fn root(tokens: &[Token]) -> Option<usize> {
    let start = main_clause(tokens);
    let first = tokens.get(start)?;
    // "How would you explain ...", "Can you suggest ...", "Does the text support ..."
    let asks = first.is(&["what", "which", "who", "whom", "whose", "where", "when", "why", "how"]);
    let helped = tokens[start..].iter().take(2).position(|token| lexicon::is_auxiliary(&token.lower));
    if let Some(helper) = helped.filter(|helper| asks || *helper == 0) {
        let helper = start + helper;
        if tokens[helper].is(&["is", "are", "was", "were", "am", "be"]) {
            return None;
        }
        return (helper + 1..tokens.len()).take_while(|at| tokens[*at].is_word()).find(|at| {
            // The subject comes first: a pronoun, or a noun phrase of at least two words.
            let subject = &tokens[helper + 1..*at];
            let ended = subject.len() > 1 || subject.first().is_some_and(|token| lexicon::is_pronoun(&token.lower));
            ended
                && lexicon::verb(&tokens[*at].lower).is_some()
                && !lexicon::is_determiner(&tokens[*at - 1].lower)
                && !lexicon::is_boundary(&tokens[*at - 1].lower)
        });
    }
    if asks {
        return None;
    }
    // "You need to ...", "I want you to ...": the root is the first verb after the subject.
    let subject = usize::from(lexicon::is_pronoun(&first.lower));
    let verb = tokens[start + subject..].iter().position(|token| {
        !lexicon::is_auxiliary(&token.lower) && !token.is(&["please", "kindly", "then", "also", "now"])
    })?;
    let at = start + subject + verb;
    lexicon::verb(&tokens[at].lower).is_some().then_some(at)
}

/// Where the main clause begins: after "Given …,", "In this task,", "To …," and the like.
fn main_clause(tokens: &[Token]) -> usize {
    let opens = [
        "given",
        "using",
        "in",
        "for",
        "with",
        "based",
        "as",
        "to",
        "from",
        "after",
        "before",
        "when",
        "if",
        "considering",
        "assuming",
        "imagine",
        "according",
        "on",
        "at",
        "by",
        "without",
        "following",
        "once",
        "while",
        "during",
    ];
    let Some(first) = tokens.first() else { return 0 };
    if !first.is(&opens) {
        return 0;
    }
    let comma = |token: &Token| token.text == "," || token.text == ":";
    let places = (0..tokens.len()).filter(|at| comma(&tokens[*at])).map(|at| at + 1);
    // The first part that begins as a clause does; a list within the opening has other words after its commas.
    let begins = |at: &usize| {
        tokens.get(*at).is_some_and(|token| {
            lexicon::verb(&token.lower).is_some_and(|verb| verb == token.lower)
                || lexicon::is_pronoun(&token.lower)
                || lexicon::is_auxiliary(&token.lower)
                || token.is(&["please", "how", "what", "which", "why", "who", "where", "when"])
        })
    };
    places.into_iter().find(begins).unwrap_or(0)
}

/// The head of the noun phrase that follows a verb.
fn object(after: &[Token]) -> Option<String> {
    let mut rest = after.iter().enumerate().peekable();
    rest.next_if(|(_, token)| lexicon::is_particle(&token.lower));
    rest.next_if(|(_, token)| lexicon::is_pronoun(&token.lower));
    let mut head: Option<&Token> = None;
    for (at, token) in rest {
        let quote = "\"“”'‘’".contains(token.text);
        if quote && head.is_none() {
            continue;
        }
        if !token.is_word() || lexicon::is_modifier(&token.lower) && head.is_some() {
            break;
        }
        let next = after.get(at + 1);
        if lexicon::is_determiner(&token.lower) && head.is_none() {
            continue;
        }
        if lexicon::is_boundary(&token.lower) {
            break;
        }
        // "a list containing the names", "a response given the history", but "a birthday planning checklist"
        let participle = token.lower.ends_with("ing") || token.lower.ends_with("ed") || token.is(&["given", "written"]);
        let opens = |next: &Token| lexicon::is_determiner(&next.lower) || lexicon::is_boundary(&next.lower);
        if head.is_some() && participle && lexicon::verb(&token.lower).is_some() && next.is_none_or(opens) {
            break;
        }
        if head.is_some() && lexicon::is_determiner(&token.lower) {
            // "Give students a quiz": what came first was the one who is given something.
            head = None;
            continue;
        }
        head = Some(token);
    }
    head.filter(|token| {
        !token.is_name() && token.text.starts_with(char::is_alphabetic) && !lexicon::is_modifier(&token.lower)
    })
    .map(|token| lexicon::singular(&token.lower))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Instructions, and what spaCy finds in them; see tests/fixtures/make_verbs.py.
    fn parsed() -> Vec<(String, Option<String>, Option<String>)> {
        serde_json::from_str(include_str!("../../../../tests/fixtures/instruct/verbs.json")).unwrap()
    }

    #[test]
    fn most_verbs_and_objects_are_those_of_a_parser() {
        let (mut pairs, mut agreed, mut others) = (0, 0, Vec::new());
        for (instruction, verb, object) in parsed() {
            let found = request(&instruction);
            let (found_verb, found_object) = found.map_or((None, None), |found| (Some(found.verb), found.object));
            let agrees = (&found_verb, &found_object) == (&verb, &object);
            if object.is_some() {
                pairs += 1;
                agreed += usize::from(agrees);
            }
            if !agrees {
                others.push(format!("{instruction} {verb:?} {object:?}, here {found_verb:?} {found_object:?}"));
            }
        }
        assert!(agreed * 100 >= pairs * 85, "{agreed} of {pairs}: {others:#?}");
    }

    #[test]
    fn nothing_is_found_in_what_asks_for_nothing() {
        for text in ["", " \n", "…", "?", "42", "Is this a question?", "The sea.", "\"\"", "Given", "Please", "Write"]
        {
            let object = request(text).and_then(|request| request.object);
            assert_eq!(object, None, "{text}");
        }
    }
}
