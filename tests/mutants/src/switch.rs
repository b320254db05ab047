/// Which mutant runs: `PADDOCK_MUTANT`. `PADDOCK_MUTANTS_REACHED` names a file that all reached ones are appended to.
#[allow(missing_docs, unsafe_code, clippy::all)]
#[doc(hidden)]
pub mod mutant {
    use std::fs::File;
    use std::io::Write;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    static ACTIVE: AtomicU32 = AtomicU32::new(0);
    const RECORD: u32 = u32::MAX;

    static SEEN: [AtomicBool; 16384] = [const { AtomicBool::new(false) }; 16384];

    #[inline(always)]
    pub fn is(number: u32) -> bool {
        let active = ACTIVE.load(Ordering::Relaxed);
        // A load is far cheaper than an exchange, and loops come here millions of times.
        if active == RECORD && !SEEN[number as usize].load(Ordering::Relaxed) {
            reach(number);
        }
        active == number
    }

    #[cold]
    #[inline(never)]
    fn reach(number: u32) {
        static FILE: OnceLock<File> = OnceLock::new();
        if !SEEN[number as usize].swap(true, Ordering::Relaxed) {
            let mut file = FILE.get_or_init(|| {
                let path = std::env::var_os("PADDOCK_MUTANTS_REACHED").unwrap();
                File::options().create(true).append(true).open(path).unwrap()
            });
            file.write_all(&number.to_le_bytes()).unwrap();
        }
    }

    extern "C" fn start() {
        if std::env::var_os("PADDOCK_MUTANTS_REACHED").is_some() {
            ACTIVE.store(RECORD, Ordering::Relaxed);
        } else if let Some(number) = std::env::var("PADDOCK_MUTANT").ok().and_then(|number| number.parse().ok()) {
            ACTIVE.store(number, Ordering::Relaxed);
        }
    }

    #[used]
    #[unsafe(link_section = ".init_array")]
    static START: extern "C" fn() = start;
}
