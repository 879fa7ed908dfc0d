//! Runs one seed of the simulation: `nacre-sim SEED [--print]`.
//!
//! Everything that the standard library, tokio and others draw at random, and every clock they
//! read, comes from the seed here. That is why this is a binary of its own: the hooks of
//! `mad_turmoil` take the place of the C library's functions in whatever links them, and would
//! stop the clocks of tests that run for real.

use std::process::ExitCode;

use mad_turmoil::time::SimClocksGuard;
use nacre_node::config::TelemetrySettings;
use rand10::SeedableRng;

mod hooks {
    //! What reaches the kernel past the C library's `getrandom`.

    /// getrandom 0.2 asks for random bytes through `syscall(2)`. Everything else goes on to the
    /// kernel.
    ///
    /// # Safety
    /// As the C library's.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[expect(unsafe_code, reason = "takes the place of a function of the C library")]
    #[unsafe(no_mangle)]
    unsafe extern "C" fn syscall(
        number: i64,
        one: usize,
        two: usize,
        three: usize,
        four: usize,
        five: usize,
        six: usize,
    ) -> i64 {
        use rand10::Rng as _;

        if number == libc::SYS_getrandom
            && let Some(mut random) = mad_turmoil::rand::try_rng()
        {
            // SAFETY: the caller gives `two` bytes at `one` to be filled.
            random.fill_bytes(unsafe { std::slice::from_raw_parts_mut(one as *mut u8, two) });
            return i64::try_from(two).unwrap_or(i64::MAX);
        }
        let result: i64;
        // SAFETY: the kernel's calling convention; the arguments are the caller's.
        unsafe {
            std::arch::asm!(
                "syscall",
                inlateout("rax") number => result,
                in("rdi") one, in("rsi") two, in("rdx") three,
                in("r10") four, in("r8") five, in("r9") six,
                lateout("rcx") _, lateout("r11") _,
            );
        }
        if (-4095..0).contains(&result) {
            // SAFETY: the C library's own place for this thread's errno.
            unsafe { *libc::__errno_location() = i32::try_from(-result).unwrap_or(libc::EIO) };
            return -1;
        }
        result
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let seed = arguments.next().and_then(|seed| seed.parse::<u64>().ok());
    let print = arguments.next().is_some_and(|flag| flag == "--print");
    let Some(seed) = seed else {
        eprintln!("usage: nacre-sim SEED [--print]");
        return ExitCode::from(2);
    };
    if let Ok(log) = std::env::var("NACRE_LOG")
        && let Err(error) = nacre_node::telemetry::start_log(&TelemetrySettings {
            log,
            ..TelemetrySettings::default()
        })
    {
        eprintln!("NACRE_LOG: {error}");
        return ExitCode::from(2);
    }
    mad_turmoil::rand::set_rng(rand10::rngs::StdRng::seed_from_u64(seed));
    let clocks = SimClocksGuard::init();
    let outcome = nacre_tests::sim::run(seed, print);
    drop(clocks);
    println!("seed {seed}: trace {:016x}, {}", outcome.hash, outcome.summary);
    match outcome.broken {
        None => ExitCode::SUCCESS,
        Some(why) => {
            println!("seed {seed} breaks a promise: {why}");
            println!("again: cargo run -p nacre-tests --bin nacre-sim -- {seed} --print");
            ExitCode::FAILURE
        }
    }
}
