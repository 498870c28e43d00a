//! Standard output, whose reader may go (`kilter prove | head`): what is written after that is for
//! nobody, and no fault. The command goes on to its end, so that what it began is finished.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// Writes to standard output.
///
/// # Errors
/// What standard output says, except that its reader has gone.
pub fn write(text: Arguments<'_>) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// As [`write()`], where there is nobody to answer to: what cannot be written is told on standard
/// error.
pub fn tell(text: Arguments<'_>) {
    if let Err(error) = write(text) {
        eprintln!("error: write to standard output: {error}");
    }
}

/// `print!`, for output whose reader may go.
macro_rules! out {
    ($($text:tt)*) => { $crate::out::tell(format_args!($($text)*)) };
}

/// `println!`, for output whose reader may go.
macro_rules! outln {
    ($($text:tt)*) => { $crate::out::tell(format_args!("{}\n", format_args!($($text)*))) };
}
