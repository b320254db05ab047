use super::*;
use crate::answer_settings::AnswerSettings;

fn chat() -> Chat {
    let turn = |id, after, question: &str, answer: &str| Turn {
        id,
        after,
        question: question.to_string(),
        answer: answer.to_string(),
        model: "tiny".to_string(),
        ..Turn::default()
    };
    Chat {
        id: "a".to_string(),
        turns: vec![
            turn(0, None, "Which  horse\nis the fastest?", "The first."),
            turn(1, Some(0), "Why?", "It trains."),
            turn(3, Some(0), "How fast?", "Very."),
        ],
        shown: Some(1),
        settings: AnswerSettings { system: "Be brief.\nBe kind.".to_string(), ..AnswerSettings::default() },
        ..Chat::default()
    }
}

#[test]
fn a_title_is_the_person_s_or_the_first_question() {
    let mut chat = chat();
    assert_eq!(chat.name(), "Which horse is the fastest?");
    chat.turns[0].question = "é".repeat(100);
    assert_eq!(chat.name(), format!("{}…", "é".repeat(60)));
    chat.title = " Horses ".to_string();
    assert_eq!(chat.name(), "Horses");
    assert_eq!(Chat::default().name(), "New chat");
    assert!(Chat { draft: " \n".to_string(), ..Chat::default() }.is_empty());
}

#[test]
fn what_was_said_is_found_in_every_branch() {
    let chat = chat();
    for wanted in ["horse", "VERY", " trains ", ""] {
        assert!(chat.mentions(wanted), "{wanted}");
    }
    assert!(!chat.mentions("cow"));
}

#[test]
fn a_path_is_followed_to_its_beginning_even_in_a_circle() {
    let mut chat = chat();
    let ids = |chat: &Chat| chat.path().iter().map(|turn| turn.id).collect::<Vec<_>>();
    assert_eq!(ids(&chat), [0, 1]);
    chat.shown = None;
    assert_eq!(ids(&chat), [0, 3]);
    chat.turns[0].after = Some(3);
    assert_eq!(ids(&chat).len(), 3);
}

#[test]
fn an_export_is_imported_as_it_was() {
    let chats = vec![chat(), Chat::default()];
    assert_eq!(from_text(&to_json(&chats)).unwrap(), chats);
    let fields = r#"{"format":"paddock-chats","version":1,"chats":[{"id":"b","later":true}]}"#;
    assert_eq!(from_text(fields).unwrap()[0].id, "b");
    for bad in [
        "",
        "[]",
        r#"{"format":"other","version":1,"chats":[]}"#,
        r#"{"format":"paddock-chats","version":2,"chats":[]}"#,
    ] {
        let sentence = from_text(bad).unwrap_err();
        assert!(sentence.contains("chats") && !sentence.contains('\n'), "{sentence}");
    }
}

#[test]
fn markdown_has_the_branch_that_is_shown() {
    let text = to_markdown(&chat());
    assert_eq!(
        text,
        "# Which horse is the fastest?\n\n> Be brief.\n> Be kind.\n\n## You\n\nWhich  horse\nis the fastest?\n\n## tiny\n\n\
         The first.\n\n## You\n\nWhy?\n\n## tiny\n\nIt trains.\n"
    );
}

/// What the branch that is shown says, and how.
fn said(chat: &Chat) -> (String, String, Vec<(String, String, String)>) {
    let turns = chat.path().into_iter().map(|turn| (turn.question.clone(), turn.answer.clone(), turn.model.clone()));
    (chat.name(), chat.settings.system.clone(), turns.collect())
}

#[test]
fn markdown_is_imported_as_it_was_said() {
    let mut chat = chat();
    assert_eq!(said(&from_text(&to_markdown(&chat)).unwrap()[0]), said(&chat));
    let texts = [
        "## You\n\nnot a question\n\n## tiny\n\nnot an answer",
        "# Title\n\n> quoted\n\n### Third\n##\n##You",
        "```md\n## You\n  ## deeper\n\n```\n",
        " ## indented\n    ## code",
        "\n\n  begins late\n\n\n## ends\n",
        "",
        "\\## escaped\n\u{a0}## wide\n\t## tab",
        "## ",
    ];
    for question in texts {
        for answer in texts {
            chat.title = "# Of ## horses".to_string();
            chat.settings.system = "## You\n\n> Be brief.".to_string();
            for turn in &mut chat.turns {
                (turn.question, turn.answer) = (question.trim_end().to_string(), answer.trim_end().to_string());
            }
            chat.turns[1].model = "You".to_string();
            let text = to_markdown(&chat);
            for text in [text.clone(), text.replace('\n', "\r\n")] {
                let imported = from_text(&text).unwrap();
                assert_eq!(said(&imported[0]), said(&chat), "{text}");
                assert_eq!(to_markdown(&imported[0]), to_markdown(&chat));
            }
        }
    }
}

#[test]
fn other_markdown_is_one_sentence() {
    for bad in [
        "",
        "no chats",
        "# Title",
        "# Title\n\nSome words.\n\n## You\n\na\n\n## tiny\n\nb\n",
        "# Title\n\n## Usage\n\na\n\n## Licence\n\nb\n",
        "# Title\n\n## You\n\na\n",
    ] {
        let sentence = from_text(bad).unwrap_err();
        assert!(sentence.contains("no file of chats") && !sentence.contains('\n'), "{sentence}");
    }
}
