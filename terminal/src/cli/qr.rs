//! QR codes of sealed location ids: on the terminal, as PNG, as SVG; and back from a picture.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use doorstep_app::picture::{self, ROOMY};
use doorstep_daemon::output::{self, Output};
use doorstep_daemon::say;
use image::{GrayImage, Luma};
use qrcode::render::{svg, unicode};
use qrcode::{Color, EcLevel, QrCode};

use super::{Client, client, views};

/// Pixels of a module in a PNG: a sticker of 300 dpi is then some 3 cm wide.
const MODULE_PIXELS: u32 = 8;
/// Modules around the code (ISO/IEC 18004: at least four).
const QUIET_MODULES: u32 = 4;

/// Show, write or read a location's QR code.
#[derive(Debug, Args)]
pub(super) struct Qr {
    /// The sealed location id; the one of the last request by default.
    #[arg(long)]
    sealed: Option<String>,
    /// Read it from a picture (PNG or JPEG) of its code, and print it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["sealed", "png", "svg"])]
    read: Option<PathBuf>,
    /// Write a PNG image.
    #[arg(long)]
    png: Option<PathBuf>,
    /// Write an SVG image.
    #[arg(long)]
    svg: Option<PathBuf>,
    #[command(flatten)]
    client: Client,
}

pub(super) async fn execute(args: Qr) -> anyhow::Result<ExitCode> {
    if let Some(path) = &args.read {
        let sealed = read(path)?;
        match args.client.output {
            Output::Json => output::json(&views::Read {
                sealed_location_id: sealed,
            })?,
            Output::Table => say!("{sealed}")?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    let sealed = match args.sealed {
        Some(sealed) => sealed,
        None => {
            client::status(&args.client.socket)
                .await?
                .last_sealed_location_id
        }
    };
    if sealed.is_empty() {
        bail!("no location has been asked for yet; give one with --sealed");
    }
    let code = encode(&sealed)?;
    if let Some(path) = &args.png {
        png(&code)
            .save(path)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &args.svg {
        let image = code
            .render::<svg::Color<'_>>()
            .min_dimensions(256, 256)
            .build();
        fs::write(path, image).with_context(|| format!("cannot write {}", path.display()))?;
    }
    match args.client.output {
        Output::Json => {
            let file = |path: Option<PathBuf>| path.map(|path| path.display().to_string());
            output::json(&views::Made {
                sealed_location_id: sealed,
                modules: code.width(),
                png: file(args.png),
                svg: file(args.svg),
            })?;
        }
        Output::Table => match (args.png, args.svg) {
            (None, None) => say!("{}", text(&code))?,
            (png, svg) => {
                for path in [png, svg].into_iter().flatten() {
                    say!("written: {}", path.display())?;
                }
            }
        },
    }
    Ok(ExitCode::SUCCESS)
}

/// The text of the one QR code in a picture.
pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    let bytes =
        fs::read(path).with_context(|| format!("cannot read the image {}", path.display()))?;
    picture::read(&bytes, ROOMY).with_context(|| path.display().to_string())
}

fn encode(sealed: &str) -> anyhow::Result<QrCode> {
    QrCode::with_error_correction_level(sealed, EcLevel::M)
        .context("the text does not fit a QR code; is it a sealed location id?")
}

/// Light on dark is what most terminals show, so that light modules are drawn.
fn text(code: &QrCode) -> String {
    code.render::<unicode::Dense1x2>()
        .dark_color(unicode::Dense1x2::Light)
        .light_color(unicode::Dense1x2::Dark)
        .build()
}

fn png(code: &QrCode) -> GrayImage {
    let modules = u32::try_from(code.width()).unwrap_or(0);
    let side = (modules + 2 * QUIET_MODULES) * MODULE_PIXELS;
    GrayImage::from_fn(side, side, |x, y| {
        let module = |pixel: u32| {
            let at = (pixel / MODULE_PIXELS).checked_sub(QUIET_MODULES)?;
            (at < modules).then_some(at as usize)
        };
        match (module(x), module(y)) {
            (Some(x), Some(y)) if code[(x, y)] == Color::Dark => Luma([0]),
            _ => Luma([255]),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_show_the_same_code() {
        let sealed = format!("d1.{}", "A".repeat(144));
        let code = encode(&sealed).unwrap();
        let image = png(&code);
        let lines: Vec<Vec<char>> = text(&code).lines().map(|l| l.chars().collect()).collect();
        for y in 0..code.width() {
            for x in 0..code.width() {
                let dark = code[(x, y)] == Color::Dark;
                let pixel = |at: usize| (u32::try_from(at).unwrap() + 4) * 8 + 3;
                assert_eq!(image.get_pixel(pixel(x), pixel(y)) == &Luma([0]), dark);
                let shown = lines[(y + 4) / 2][x + 4];
                let light = match (y + 4) % 2 {
                    0 => shown == '\u{2580}' || shown == '\u{2588}',
                    _ => shown == '\u{2584}' || shown == '\u{2588}',
                };
                assert_eq!(light, !dark, "module {x},{y}");
            }
        }
        assert_eq!(image.get_pixel(0, 0), &Luma([255]));
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door.png");
        let said = |path: &Path| format!("{:#}", read(path).unwrap_err());
        assert!(
            said(&path).contains("cannot read the image"),
            "{}",
            said(&path)
        );
        let sealed = format!("d1.{}", "A".repeat(144));
        png(&encode(&sealed).unwrap()).save(&path).unwrap();
        assert_eq!(read(&path).unwrap(), sealed);
        fs::write(&path, "no picture").unwrap();
        assert!(
            said(&path).contains("door.png: it is neither"),
            "{}",
            said(&path)
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(encode(&"A".repeat(5000)).is_err());
    }
}
