//! Answers that try to become script, style or a request.

use paddock_tests::page::Page;
use paddock_tests::site::TestSite;
use serde_json::json;

/// Each would set `window.injected`, style the page or ask a foreign host, if it were more than text.
const PAYLOADS: [&str; 40] = [
    "<script>window.injected = 1</script>",
    "<img src=x onerror=window.injected=1>",
    "<img src=https://tracker.test/a.png>",
    "<svg onload=window.injected=1>",
    "<svg><script>window.injected=1</script></svg>",
    "<iframe srcdoc='<script>parent.injected=1</script>'></iframe>",
    "<iframe src=https://tracker.test/></iframe>",
    "<object data=https://tracker.test/></object>",
    "<embed src=https://tracker.test/>",
    "<link rel=stylesheet href=https://tracker.test/a.css>",
    "<style>body { display: none }</style>",
    "<style>@import 'https://tracker.test/a.css'</style>",
    "<p style=\"position:fixed;inset:0;background:red\">x</p>",
    "<base href=https://tracker.test/>",
    "<meta http-equiv=refresh content='0;url=https://tracker.test/'>",
    "<form action=https://tracker.test/><input name=a><button>Send</button></form>",
    "<a href=javascript:window.injected=1>x</a>",
    "<details open ontoggle=window.injected=1>x</details>",
    "<video src=https://tracker.test/a.mp4 autoplay></video>",
    "<audio src=https://tracker.test/a.mp3 autoplay></audio>",
    "<body onload=window.injected=1>",
    "<input autofocus onfocus=window.injected=1>",
    "<math><mtext><script>window.injected=1</script></mtext></math>",
    "<!-- --><script>window.injected=1</script>",
    "<template><script>window.injected=1</script></template>",
    "</div></article><script>window.injected=1</script>",
    "![a](https://tracker.test/a.png)",
    "![a][1]\n\n[1]: https://tracker.test/b.png",
    "[a](javascript:window.injected=1)",
    "[a](JaVaScRiPt:window.injected=1)",
    "[a](data:text/html,<script>window.injected=1</script>)",
    "[a](vbscript:window.injected=1)",
    "<javascript:window.injected=1>",
    "[![a](https://tracker.test/c.png)](https://tracker.test/)",
    "[a](https://tracker.test/ \"title\" onclick=window.injected=1)",
    "```html\n<script>window.injected=1</script>\n```",
    "`<script>window.injected=1</script>`",
    "| <script>window.injected=1</script> | a |\n|---|---|\n| <img src=x onerror=window.injected=1> | b |",
    "# <img src=x onerror=window.injected=1>",
    "> - <script>window.injected=1</script>\n> - ![a](//tracker.test/d.png)",
];

#[test]
fn answers_stay_text_whatever_they_say() {
    let Some(site) = TestSite::start(&[], &[]) else { return };
    let Some(page) = Page::open(site, "") else { return };
    let turns: Vec<_> = PAYLOADS
        .iter()
        .enumerate()
        .map(|(id, payload)| {
            let after = id.checked_sub(1);
            json!({ "id": id, "after": after, "question": payload, "answer": payload, "finish_reason": "stop" })
        })
        .collect();
    let title = "<img src=x onerror=window.injected=1>";
    let chats = json!({ "format": "paddock-chats", "version": 1, "chats": [{ "title": title, "turns": turns }] });
    page.import_by("import-chats", &chats.to_string());
    page.wait_for_texts("message-user", &PAYLOADS);
    page.wait_for_texts("chat-title", &[title]);
    let found = page.browser.evaluate(
        "const places = [...document.querySelectorAll('.transcript, .rail, .top')];
         const some = selector => places.flatMap(place => [...place.querySelectorAll(selector)]);
         const strange = some('script, style, iframe, img, object, embed, link, base, meta, video, audio, math, a[href]:not(.rail a), .markdown input, [onload], [onerror], [onclick], .markdown [style]');
         const asked = performance.getEntriesByType('resource').map(entry => entry.name).filter(name => name.includes('tracker.test'));
         return { injected: window.injected ?? null, strange: strange.map(element => element.outerHTML), asked };",
    );
    assert_eq!(found, json!({ "injected": null, "strange": [], "asked": [] }));
    // A reference says where it leads before it can be followed, and gives nothing away.
    page.click("reference");
    page.wait_for_texts("link", &["https://tracker.test/a.png"]);
    assert_eq!(page.attribute("link", "rel").as_deref(), Some("noopener noreferrer nofollow"));
}
