//! A program of the operator's. The question comes on its standard input, because arguments and
//! environment can be read by others.

use std::process::Stdio;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use zeroize::Zeroizing;

use super::{HookError, MAX_ANSWER_LEN, Verdict, reason};

const ACCEPTED: i32 = 0;
const REFUSED: i32 = 1;
/// Far from what interpreters and shells end with when something is wrong.
const CODE_SENT: i32 = 10;

pub(super) struct Program(Vec<String>);

impl Program {
    /// The program's path, then its arguments.
    pub fn new(command: &[String]) -> Self {
        Program(command.to_vec())
    }

    /// When the answer is not waited for any more the program is killed.
    pub async fn ask(&self, question: Zeroizing<Vec<u8>>) -> Result<Verdict, HookError> {
        let mut command = Command::new(&self.0[0]);
        command
            .args(&self.0[1..])
            // The server's own may hold the password of its database.
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // It may say anything, numbers too.
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(HookError::Run)?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take();
        let ask = async {
            if let Some(mut stdin) = stdin {
                // A program that does not care about the question may end without reading it.
                let _ = stdin.write_all(&question).await;
                let _ = stdin.shutdown().await;
            }
        };
        let answer = async {
            let mut answer = Vec::new();
            if let Some(mut stdout) = stdout {
                let mut first = (&mut stdout).take(MAX_ANSWER_LEN as u64);
                first.read_to_end(&mut answer).await?;
                // What is more is read and left, so that the program does not wait for it.
                tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await?;
            }
            Ok::<_, std::io::Error>(answer)
        };
        let ((), answer, ended) = tokio::join!(ask, answer, child.wait());
        let (answer, ended) = (
            answer.map_err(HookError::Run)?,
            ended.map_err(HookError::Run)?,
        );
        match ended.code() {
            Some(ACCEPTED) => Ok(Verdict::Accepted),
            Some(REFUSED) => Ok(Verdict::Refused(reason(&answer))),
            Some(CODE_SENT) => Ok(Verdict::CodeSent),
            _ => Err(HookError::Exit(ended)),
        }
    }
}
