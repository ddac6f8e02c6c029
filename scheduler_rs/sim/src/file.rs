//! A file that the user names, as text: a regular one or a pipe, read whole and so bounded.

use crate::Error;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// A hundred times the largest recorded workload that is known. A device has no end.
const BYTES_MAX: u64 = 1 << 30;

pub(crate) fn text(path: &Path) -> Result<String, Error> {
    let bytes = read(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    decoded(bytes).map_err(|line| Error::Row {
        path: path.to_owned(),
        line,
        reason: "is not UTF-8 text".to_owned(),
    })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let kind = fs::metadata(path)?.file_type();
    if !(kind.is_file() || kind.is_fifo()) {
        return Err(io::Error::other("is neither a regular file nor a pipe"));
    }
    bounded(File::open(path)?, BYTES_MAX)
}

fn bounded(from: impl Read, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("has more than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// The text, or the line in which it is none.
fn decoded(bytes: Vec<u8>) -> Result<String, usize> {
    String::from_utf8(bytes).map_err(|error| {
        let sound = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        sound.split(|&byte| byte == b'\n').count()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is not UTF-8 is named by its line.
    #[test]
    fn other_encodings() {
        let rows = b"arrival_s,prompt_tokens,output_tokens,tenant\n0,1,1,a\n";
        let latin = [&rows[..], b"1,1,1,Z\xfcrich\n2,1,1,b\n"].concat();
        assert_eq!(decoded(latin), Err(3));
        assert_eq!(decoded(b"\xff\xfea\0".to_vec()), Err(1));
        assert_eq!(decoded(rows.to_vec()).map(|text| text.lines().count()), Ok(2));
    }

    /// What has no end is read up to the bound and refused; what ends at it is whole.
    #[test]
    fn bounds() {
        let error = bounded(io::repeat(b'1'), 1_000).unwrap_err().to_string();
        assert_eq!(error, "has more than 1000 bytes");
        assert_eq!(bounded(io::repeat(b'1').take(1_000), 1_000).unwrap().len(), 1_000);
    }

    /// A device and a folder are no files to read.
    #[test]
    fn no_files() {
        for path in ["/dev/zero", "/"] {
            let error = text(Path::new(path)).unwrap_err().to_string();
            assert_eq!(error, format!("{path}: is neither a regular file nor a pipe"));
        }
    }
}
