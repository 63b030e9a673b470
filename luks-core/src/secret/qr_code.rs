//! A recovery key as a QR code, for a terminal or for paper.

use std::fmt::Write;

use qrcodegen::{QrCode, QrCodeEcc};
use zeroize::Zeroizing;

use super::recovery_key::RecoveryKey;

/// Light modules that must surround the code (ISO/IEC 18004, 9.1).
const QUIET: i32 = 4;
/// Pixels of a module in a PNG.
const PIXELS: u32 = 8;

/// The QR code of a [`RecoveryKey`]: its text in capitals with hyphens, readable with a quarter of it damaged.
///
/// The pictures are as secret as the key. They are wiped when dropped; the encoder's own buffers are not.
pub struct RecoveryKeyPicture {
    code: QrCode,
}

impl RecoveryKey {
    /// Draws the key; `None` can't happen with a key's length, and stands for a text too long for a QR code.
    pub fn picture(&self) -> Option<RecoveryKeyPicture> {
        QrCode::encode_text(self.expose_text(), QrCodeEcc::Quartile)
            .ok()
            .map(|code| RecoveryKeyPicture { code })
    }
}

impl RecoveryKeyPicture {
    /// Lines for a terminal with light text on a dark background, two rows of modules in a line.
    pub fn terminal(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(self.area() * 4));
        for row in self.places().step_by(2) {
            for column in self.places() {
                text.push(match (self.is_light(column, row), self.is_light(column, row + 1)) {
                    (true, true) => '\u{2588}',
                    (true, false) => '\u{2580}',
                    (false, true) => '\u{2584}',
                    (false, false) => ' ',
                });
            }
            text.push('\n');
        }
        text
    }

    /// An SVG picture, black on white, one unit for each module.
    pub fn svg(&self) -> Zeroizing<String> {
        let side = self.code.size() + 2 * QUIET;
        let mut svg = Zeroizing::new(String::with_capacity(self.area() * 24));
        svg.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        // Writing into a String can't fail.
        let _cannot_fail = writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {side} {side}\" shape-rendering=\"crispEdges\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
        );
        svg.push_str("<path fill=\"#000000\" d=\"");
        for row in self.places() {
            for column in self.places().filter(|column| !self.is_light(*column, row)) {
                let _cannot_fail = write!(svg, "M{},{}h1v1h-1z", column + QUIET, row + QUIET);
            }
        }
        svg.push_str("\"/>\n</svg>\n");
        svg
    }

    /// A PNG picture, black on white, eight pixels for each module; `None` can't happen and stands for an encoder that
    /// refuses.
    pub fn png(&self) -> Option<Zeroizing<Vec<u8>>> {
        let modules = u32::try_from(self.places().len()).ok()?;
        let side = modules * PIXELS;
        let row_bytes = usize::try_from(side.div_ceil(8)).ok()?;
        let mut pixels = Zeroizing::new(Vec::with_capacity(row_bytes * usize::try_from(side).ok()?));
        for row in self.places() {
            // A module is as wide as a byte has bits.
            let line: Zeroizing<Vec<u8>> = Zeroizing::new(
                self.places().map(|column| if self.is_light(column, row) { 0xff } else { 0 }).collect(),
            );
            (0..PIXELS).for_each(|_| pixels.extend_from_slice(&line));
        }
        let mut picture = Zeroizing::new(Vec::with_capacity(pixels.len() + 4096));
        let mut encoder = png::Encoder::new(&mut *picture, side, side);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::One);
        let mut writer = encoder.write_header().ok()?;
        writer.write_image_data(&pixels).ok()?;
        writer.finish().ok()?;
        Some(picture)
    }

    /// Coordinates from the quiet zone before the code to the one behind it.
    fn places(&self) -> std::ops::Range<i32> {
        -QUIET..self.code.size() + QUIET
    }

    fn is_light(&self, column: i32, row: i32) -> bool {
        // Outside of the code the encoder answers light.
        !self.code.get_module(column, row)
    }

    /// An upper bound for the number of modules drawn, so that no half-filled buffer is left behind by growing.
    fn area(&self) -> usize {
        let side = usize::try_from(self.code.size() + 2 * QUIET + 1).unwrap_or_default();
        side * side
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader makes of a bitmap; `dark[row][column]`.
    fn decode(dark: &[Vec<bool>]) -> String {
        const SCALE: usize = 4;
        let (width, height) = (dark[0].len() * SCALE, dark.len() * SCALE);
        let grey = |x: usize, y: usize| if dark[y / SCALE][x / SCALE] { 0 } else { 255 };
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, grey);
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1, "no QR code is seen");
        grids[0].decode().unwrap().1
    }

    #[test]
    fn a_reader_reads_the_terminals_picture() {
        let key = RecoveryKey::generate().unwrap();
        let terminal = key.picture().unwrap().terminal();
        let mut rows = Vec::new();
        for line in terminal.lines() {
            rows.push(line.chars().map(|c| c == ' ' || c == '\u{2584}').collect::<Vec<_>>());
            rows.push(line.chars().map(|c| c == ' ' || c == '\u{2580}').collect());
        }
        assert_eq!(decode(&rows), key.expose_text());
        assert!(terminal.lines().all(|line| line.chars().count() <= 80), "wider than a terminal");
    }

    #[test]
    fn a_reader_reads_the_svg_picture() {
        let key = RecoveryKey::generate().unwrap();
        let picture = key.picture().unwrap();
        let svg = picture.svg();
        let side = usize::try_from(picture.code.size() + 2 * QUIET).unwrap();
        let mut rows = vec![vec![false; side]; side];
        let path = svg.split("d=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        for module in path.split('M').skip(1) {
            let (column, rest) = module.split_once(',').unwrap();
            let row = rest.split('h').next().unwrap();
            rows[row.parse::<usize>().unwrap()][column.parse::<usize>().unwrap()] = true;
        }
        assert_eq!(decode(&rows), key.expose_text());
        assert!(svg.contains(&format!("viewBox=\"0 0 {side} {side}\"")));
    }

    #[test]
    fn a_reader_reads_the_png_picture() {
        let key = RecoveryKey::generate().unwrap();
        let bytes = key.picture().unwrap().png().unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes.as_slice())).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        let (side, row) = (usize::try_from(info.width).unwrap(), usize::try_from(info.width).unwrap() / 8);
        let dark = |x: usize, y: usize| pixels[y * row + x / 8] >> (7 - x % 8) & 1 == 0;
        let rows: Vec<Vec<bool>> =
            (0..side).step_by(8).map(|y| (0..side).step_by(8).map(|x| dark(x, y)).collect()).collect();
        assert_eq!(decode(&rows), key.expose_text());
    }

    #[test]
    fn buffers_never_grow() {
        let picture = RecoveryKey::generate().unwrap().picture().unwrap();
        assert!(picture.terminal().capacity() <= picture.area() * 4);
        assert!(picture.svg().capacity() <= picture.area() * 24);
    }
}
