//! Teachers, against a server that misbehaves in the ways that servers do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Server, ServerOptions, Teacher};
use crate::Result;
use crate::instruct::{Ask, Completion, Prompt};

/// What a server does with a request.
enum Reply {
    /// Answers with a status, headers, and a body.
    Answer(u16, &'static str, String),
    /// Ends the connection in the middle of the body.
    Cut(String),
    /// Ends it before anything is said.
    HangUp,
    /// Answers, but late.
    Late(Duration, String),
}

/// Requests that came: the path, the key and the body.
type Seen = Arc<Mutex<Vec<(String, Option<String>, Value)>>>;

/// Starts a server that does what `reply` says to the request of a number, path and body. Returns its address and what it is
/// asked.
fn serve(reply: impl Fn(usize, &str, &Value) -> Reply + Send + Sync + 'static) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    let (log, reply) = (seen.clone(), Arc::new(reply));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (log, reply) = (log.clone(), reply.clone());
            thread::spawn(move || {
                let _ = answer(stream, &log, &*reply);
            });
        }
    });
    (address, seen)
}

fn answer(mut stream: TcpStream, seen: &Seen, reply: &dyn Fn(usize, &str, &Value) -> Reply) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_string();
        let (mut length, mut key) = (0, None);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim().split_once(": ") else { break };
            match name.to_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap(),
                "authorization" => key = Some(value.to_string()),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push((path.clone(), key, body.clone()));
            seen.len() - 1
        };
        let send = |stream: &mut TcpStream, status: u16, headers: &str, body: &str| {
            write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
        };
        match reply(number, &path, &body) {
            Reply::Answer(status, headers, body) => send(&mut stream, status, headers, &body)?,
            Reply::Cut(body) => {
                write!(stream, "HTTP/1.1 200 X\r\nContent-Length: {}\r\n\r\n{body}", body.len() + 10)?;
                return Ok(());
            }
            Reply::HangUp => return Ok(()),
            Reply::Late(wait, body) => {
                thread::sleep(wait);
                send(&mut stream, 200, "", &body)?;
            }
        }
    }
}

fn ok(text: &str) -> Reply {
    let usage = json!({ "prompt_tokens": 7, "completion_tokens": 3 });
    let choice = json!({ "text": text, "finish_reason": "stop" });
    Reply::Answer(200, "", json!({ "choices": [choice], "usage": usage }).to_string())
}

fn error(status: u16, message: &str) -> Reply {
    Reply::Answer(status, "", json!({ "error": { "message": message } }).to_string())
}

fn options(url: &str) -> ServerOptions {
    ServerOptions {
        url: url.to_string(),
        role: "teacher",
        model: Some("m".to_string()),
        key: Some("sk-secret".to_string()),
        concurrency: 2,
        timeout: Duration::from_secs(20),
        turn: Some((vec![1, 2], "<user>".to_string())),
        note: |words| NOTES.lock().unwrap().push(words.to_string()),
    }
}

/// What the clients of all tests have said.
static NOTES: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn ask(text: &str) -> Ask {
    Ask { stop: vec!["END".to_string()], seed: 5, ..Ask::text(text.to_string()) }
}

/// What the server at `url` answers to each of `asks`.
fn answers(url: &str, asks: &[Ask]) -> Result<Vec<Option<Completion>>> {
    let mut server = Server::connect(options(url))?;
    let mut found = vec![None; asks.len()];
    server.ask(&asks.iter().collect::<Vec<_>>(), &|| false, &mut |index, completion| {
        assert!(found[index].replace(completion).is_none(), "handed over twice");
        Ok(true)
    })?;
    Ok(found)
}

fn one(url: &str, ask: Ask) -> Result<Completion> {
    answers(url, &[ask]).map(|mut found| found.remove(0).expect("an answer"))
}

#[test]
fn every_option_is_sent_and_the_key_with_it() {
    let (url, seen) = serve(|_, _, _| ok(" one END two"));
    let found = one(&url, Ask { temperature: 0.5, top_p: 0.9, max_tokens: 77, ..ask("p") }).unwrap();
    // A server that does not know `stop` went on behind it.
    assert_eq!((found.text.as_str(), found.cut), (" one ", false));
    let usage = found.usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.estimated), (7, 3, false));
    let seen = seen.lock().unwrap();
    let (path, key, body) = &seen[0];
    assert_eq!((path.as_str(), key.as_deref()), ("/v1/completions", Some("Bearer sk-secret")));
    for (name, value) in [
        ("prompt", json!("p")),
        ("model", json!("m")),
        ("temperature", json!(0.5)),
        ("max_tokens", json!(77)),
        ("n", json!(1)),
        ("seed", json!(5)),
        ("stop", json!(["END"])),
        ("top_k", json!(0.0)),
        ("min_p", json!(0.0)),
        ("presence_penalty", json!(0.0)),
    ] {
        assert_eq!(body[name], value, "{name}");
    }
    assert!((body["top_p"].as_f64().unwrap() - 0.9).abs() < 1e-6);
}

#[test]
fn what_passes_is_asked_again_until_it_has() {
    let (url, seen) = serve(|number, _, _| match number {
        0 => Reply::Answer(429, "Retry-After: 0\r\n", "slow down".to_string()),
        1 => Reply::Answer(429, "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n", String::new()),
        2 => Reply::Answer(503, "Retry-After: 0\r\n", json!({ "error": "Loading model" }).to_string()),
        3 => Reply::Answer(408, "Retry-After: 0\r\n", String::new()),
        _ => ok("done"),
    });
    assert_eq!(one(&url, ask("p")).unwrap().text, "done");
    assert_eq!(seen.lock().unwrap().len(), 5);
}

#[test]
fn a_long_pause_is_announced_once() {
    let (url, _) = serve(|_, _, body| match body["seed"].as_u64() {
        Some(5) => Reply::Answer(503, "Retry-After: 2\r\n", json!({ "error": "away until two" }).to_string()),
        _ => ok("done"),
    });
    let asks = ["p", "q"].map(ask);
    let mut server = Server::connect(options(&url)).unwrap();
    let started = Instant::now();
    let stop = || started.elapsed() > Duration::from_millis(300);
    server.ask(&[&asks[0], &asks[1]], &stop, &mut |_, _| Ok(true)).unwrap();
    let notes = NOTES.lock().unwrap();
    let said: Vec<&String> = notes.iter().filter(|note| note.contains("away until two")).collect();
    assert!(said.len() == 1 && said[0].contains("asking again in 2 s"), "{said:?}");
}

#[test]
fn connections_that_break_are_taken_up_again() {
    let (url, seen) = serve(|number, _, _| match number {
        0 => Reply::Cut("{\"choices\": [".to_string()),
        1 => Reply::HangUp,
        2 => Reply::Answer(200, "", "<html>busy</html>".to_string()),
        _ => ok("done"),
    });
    assert_eq!(one(&url, ask("p")).unwrap().text, "done");
    // A connection that was kept open and is found closed may be tried once more by the client itself.
    assert!(seen.lock().unwrap().len() >= 4);
}

#[test]
fn a_slow_server_holds_up_no_other_question() {
    let (url, _) = serve(|_, _, body| match body["prompt"].as_str() {
        Some("slow") => Reply::Late(
            Duration::from_millis(300),
            json!({ "choices": [{ "text": "late", "finish_reason": "length" }] }).to_string(),
        ),
        _ => ok("soon"),
    });
    let found = answers(&url, &[ask("slow"), ask("a"), ask("b")]).unwrap();
    let texts: Vec<&str> = found.iter().flatten().map(|completion| completion.text.as_str()).collect();
    assert_eq!(texts, ["late", "soon", "soon"]);
    let late = found[0].as_ref().unwrap();
    assert!(late.cut);
    // Without `usage` the cost is guessed, and says so.
    let usage = late.usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.estimated), (1, 1, true));
}

#[test]
fn a_chat_server_is_found_out_once() {
    let (url, seen) = serve(|_, path, _| match path {
        "/v1/chat/completions" => {
            let choices = json!([{ "message": { "content": "a" } }, { "message": { "content": "b" } }]);
            Reply::Answer(200, "", json!({ "choices": choices }).to_string())
        }
        _ => error(404, "no such route"),
    });
    let found = answers(&url, &[ask("p"), ask("q"), ask("r")]).unwrap();
    // It ignores n, too: the first choice is taken.
    assert!(found.iter().flatten().all(|completion| completion.text == "a"));
    let seen = seen.lock().unwrap();
    assert!(seen.iter().filter(|(path, ..)| path == "/v1/completions").count() <= 2, "each thread may try once");
    let chat = seen.iter().find(|(path, ..)| path == "/v1/chat/completions").unwrap();
    assert_eq!(chat.2["messages"][0]["role"], "user");
}

#[test]
fn a_turn_goes_as_ids_or_as_text() {
    let turn = || Ask { seed: 1, ..Ask::of(Prompt::Turn) };
    let (url, seen) = serve(|_, _, _| ok("Hello?"));
    one(&url, turn()).unwrap();
    assert_eq!(seen.lock().unwrap()[0].2["prompt"], json!([1, 2]));
    let (url, seen) = serve(|_, _, body| match body["prompt"].is_array() {
        true => error(400, "prompt must be a string"),
        false => ok("Hello?"),
    });
    one(&url, turn()).unwrap();
    assert_eq!(seen.lock().unwrap()[1].2["prompt"], json!("<user>"));
    let mut server = Server::connect(ServerOptions { turn: None, ..options(&url) }).unwrap();
    let error = server.ask(&[&turn()], &|| false, &mut |_, _| Ok(true)).unwrap_err().to_string();
    assert!(error.contains("--tokenizer"), "{error}");
}

#[test]
fn options_that_a_server_refuses_are_left_out() {
    let (url, seen) = serve(|_, _, body| {
        if body.get("top_k").is_some() {
            error(400, "Unrecognized request argument supplied: top_k")
        } else if body.get("max_tokens").is_some() {
            error(400, "Unsupported parameter: use 'max_completion_tokens' instead")
        } else {
            ok("done")
        }
    });
    assert_eq!(one(&url, ask("p")).unwrap().text, "done");
    let seen = seen.lock().unwrap();
    let (.., last) = seen.last().unwrap();
    assert_eq!((seen.len(), &last["max_completion_tokens"]), (3, &json!(512)));
    assert!(last.get("min_p").is_none() && last.get("temperature").is_some());
}

#[test]
fn a_prompt_that_is_too_long_gets_a_shorter_answer() {
    let (url, seen) = serve(|_, _, body| match body["max_tokens"].as_u64() {
        Some(330..) => error(400, "This model's maximum context length is 4097 tokens"),
        _ => ok("done"),
    });
    assert_eq!(one(&url, ask("p")).unwrap().text, "done");
    let lengths: Vec<u64> = seen.lock().unwrap().iter().filter_map(|(.., body)| body["max_tokens"].as_u64()).collect();
    assert_eq!(lengths, [512, 409, 327]);
    for (words, requests) in [
        ("This model's maximum context length is 4097 tokens", 10),
        // llama.cpp's, which looks at the prompt alone.
        ("request (1434 tokens) exceeds the available context size (1024 tokens), try increasing it", 1),
    ] {
        let (url, seen) = serve(move |_, _, _| error(400, words));
        let found = one(&url, ask("p")).unwrap();
        assert!(found.cut && found.text.is_empty(), "a prompt without room for an answer ends no run");
        assert_eq!(seen.lock().unwrap().len(), requests, "{words}");
    }
}

#[test]
fn what_is_final_is_one_sentence_without_the_key() {
    for (status, message, words) in [
        (401, "Incorrect API key provided: sk-secret", "answers 401: Incorrect API key provided: …"),
        (403, "no", "--api-key-env"),
        (400, "stop: too many sequences", "answers 400: stop: too many sequences"),
    ] {
        let (url, seen) = serve(move |_, path, _| match path {
            "/v1/completions" => error(status, message),
            _ => error(status, message),
        });
        let found = one(&url, Ask { ..Ask::of(Prompt::Message("p".to_string())) }).unwrap_err().to_string();
        assert!(found.contains(words) && !found.contains("sk-secret") && !found.contains('\n'), "{found}");
        assert_eq!(seen.lock().unwrap().len(), 1, "it was asked again");
    }
}

#[test]
fn after_a_stop_nothing_more_is_asked_and_what_is_under_way_is_kept() {
    let (url, seen) = serve(|_, _, _| ok("done"));
    let mut server = Server::connect(options(&url)).unwrap();
    let asks: Vec<Ask> = (0..40).map(|i| ask(&i.to_string())).collect();
    let mut kept = 0;
    server
        .ask(&asks.iter().collect::<Vec<_>>(), &|| false, &mut |_, _| {
            kept += 1;
            Ok(kept < 3)
        })
        .unwrap();
    assert_eq!(seen.lock().unwrap().len(), kept, "an answer was paid for and thrown away");
    assert!(kept < 40);
}

#[test]
fn a_server_names_its_model_or_says_that_it_cannot() {
    let (url, _) = serve(|_, path, _| match path {
        "/v1/models" => Reply::Answer(200, "", json!({ "data": [{ "id": "first" }, { "id": "second" }] }).to_string()),
        _ => error(404, "no"),
    });
    let connect = |url: &str| Server::connect(ServerOptions { model: None, ..options(url) });
    assert_eq!(connect(&format!("{url}/v1/")).unwrap().name(), "first");
    let (url, _) = serve(|_, _, _| Reply::Answer(200, "", "{}".to_string()));
    let error = connect(&url).err().unwrap().to_string();
    assert!(error.contains("--teacher-model"), "{error}");
}
