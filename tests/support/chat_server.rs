//! A server of OpenAI's chat protocol that says, or fails to say, what a test wants.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// What it does with a question.
pub enum Reply {
    /// Answers with this text, and says that it read 10 tokens and wrote 5.
    Text(String),
    /// Answers with a status, to be asked again at once.
    Again(u16),
    /// Answers with something else than JSON.
    Nonsense,
    /// Ends the connection in the middle of the answer.
    Cut,
    /// Says nothing for a minute.
    Silence,
}

/// Starts a server whose model "fair" does what `reply` says to a user's message. Returns its address.
///
/// # Panics
/// When there is no port for it.
pub fn chat_server(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("its address"));
    let reply = Arc::new(reply);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let reply = reply.clone();
            thread::spawn(move || {
                let _ = serve(stream, &*reply);
            });
        }
    });
    address
}

fn serve(mut stream: TcpStream, reply: &dyn Fn(&str) -> Reply) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim().split_once(": ") else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().map_err(io::Error::other)?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mut send = |status: u16, body: &str| {
            let length = body.len();
            write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nRetry-After: 0\r\n\r\n{body}")
        };
        if line.starts_with("GET ") {
            send(200, r#"{"data": [{"id": "fair"}]}"#)?;
            continue;
        }
        let asked: Value = serde_json::from_slice(&body)?;
        match reply(asked["messages"][0]["content"].as_str().unwrap_or_default()) {
            Reply::Text(text) => {
                let choice = json!({ "message": { "content": text }, "finish_reason": "stop" });
                let usage = json!({ "prompt_tokens": 10, "completion_tokens": 5 });
                send(200, &json!({ "choices": [choice], "usage": usage }).to_string())?;
            }
            Reply::Again(status) => send(status, r#"{"error": {"message": "not now"}}"#)?,
            Reply::Nonsense => send(200, "<html>")?,
            Reply::Cut => return write!(stream, "HTTP/1.1 200 X\r\nContent-Length: 900\r\n\r\n{{\"choices\": ["),
            Reply::Silence => {
                thread::sleep(Duration::from_secs(60));
                return Ok(());
            }
        }
    }
}
