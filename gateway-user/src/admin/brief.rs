//! Long texts that have to travel in a header.

/// Bytes of a long refusal's beginning and end that are told.
const HEAD: usize = 500;
const TAIL: usize = 2_000;

/// Leaves the middle of a long text out: a status travels in a header, and what the verifier tells
/// may be megabytes. It begins with what was refused, and ends with why.
pub(super) fn brief(text: &str) -> String {
    let (head, tail) = (
        text.floor_char_boundary(HEAD),
        text.ceil_char_boundary(text.len().saturating_sub(TAIL)),
    );
    match text.get(head..tail) {
        Some(middle) if !middle.is_empty() => {
            let (head, tail) = (&text[..head], &text[tail..]);
            format!("{head}\n[... {} bytes ...]\n{tail}", middle.len())
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_refusals_keep_both_ends() {
        for short in ["", "program xdp_access: R9 !read_ok", &"é".repeat(1_250)] {
            assert_eq!(brief(short), short);
        }
        let long = format!("program xdp_access: {}R9 !read_ok", "é\n".repeat(1 << 20));
        let told = brief(&long);
        assert!(told.starts_with("program xdp_access: é"), "{told}");
        assert!(told.ends_with("é\nR9 !read_ok"), "{told}");
        assert!(told.len() < HEAD + TAIL + 100, "{}", told.len());
    }
}
