//! A picture of a door's code.

use std::io::Cursor;

use image::{DynamicImage, GrayImage, ImageFormat, Luma};
use qrcode::QrCode;

/// As a PNG, eight pixels a module.
pub fn of(text: &str) -> Vec<u8> {
    let code = QrCode::new(text).unwrap();
    let (width, modules) = (code.width(), code.to_colors());
    let side = u32::try_from(width + 8).unwrap() * 8;
    let image = GrayImage::from_fn(side, side, |x, y| {
        let at = |pixel: u32| (pixel as usize / 8).checked_sub(4).filter(|at| *at < width);
        match (at(x), at(y)) {
            (Some(x), Some(y)) => modules[y * width + x].select(Luma([0]), Luma([255])),
            _ => Luma([255]),
        }
    });
    let mut bytes = Cursor::new(Vec::new());
    let image = DynamicImage::from(image);
    image.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}
