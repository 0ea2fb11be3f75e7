//! G.711: a logarithm of each sample in eight bits (ITU-T G.711).

use super::{AudioCodec, CodecError, LossPattern, conceal::Concealer, to_f32, to_i16};
use crate::CodecQuality;

/// Which logarithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// PCMU, of North America and Japan.
    Mu,
    /// PCMA, of the rest of the world.
    A,
}

/// PCMU or PCMA, with concealment by the pitch of what was before (as G.711 appendix I has it).
#[derive(Clone, Debug)]
pub struct G711 {
    law: Law,
    concealer: Concealer,
}

impl G711 {
    /// At rest.
    pub fn new(law: Law) -> Self {
        Self {
            law,
            concealer: Concealer::new(8_000),
        }
    }
}

impl AudioCodec for G711 {
    fn name(&self) -> &'static str {
        match self.law {
            Law::Mu => "PCMU",
            Law::A => "PCMA",
        }
    }

    fn sample_rate(&self) -> u32 {
        8_000
    }

    fn quality(&self) -> CodecQuality {
        CodecQuality::G711
    }

    fn encode(&mut self, frame: &[f32], payload: &mut Vec<u8>) -> Result<(), CodecError> {
        payload.clear();
        let encode = match self.law {
            Law::Mu => mu_from_linear,
            Law::A => a_from_linear,
        };
        payload.extend(frame.iter().map(|sample| encode(to_i16(*sample))));
        Ok(())
    }

    fn decode(&mut self, payload: &[u8], sound: &mut Vec<f32>) -> Result<(), CodecError> {
        let decode = match self.law {
            Law::Mu => linear_from_mu,
            Law::A => linear_from_a,
        };
        let from = sound.len();
        sound.extend(payload.iter().map(|byte| to_f32(decode(*byte))));
        self.concealer.heard(&mut sound[from..]);
        Ok(())
    }

    fn recover(&mut self, _: &[u8], _: u32, _: usize, _: &mut Vec<f32>) -> bool {
        false
    }

    fn conceal(&mut self, samples: usize, sound: &mut Vec<f32>) {
        self.concealer.conceal(samples, sound);
    }

    fn adapt(&mut self, _: LossPattern) {}

    fn set_dtx(&mut self, _: bool) {}
}

/// What mu-law adds before it takes the logarithm (G.711 table 2a, in fourteen bits, here in sixteen).
const BIAS: i32 = 33 << 2;

/// The greatest that mu-law can say.
const CLIP: i32 = 32_635;

fn mu_from_linear(sample: i16) -> u8 {
    let sign: u8 = if sample < 0 { 0x80 } else { 0 };
    let magnitude = i32::from(sample).abs().min(CLIP) + BIAS;
    let exponent = (magnitude.ilog2().clamp(7, 14) - 7) as u8;
    let mantissa = ((magnitude >> (exponent + 3)) & 0x0F) as u8;
    !(sign | exponent << 4 | mantissa)
}

fn linear_from_mu(byte: u8) -> i16 {
    let byte = !byte;
    let exponent = (byte >> 4) & 7;
    let mantissa = i32::from(byte & 0x0F);
    let magnitude = (((mantissa << 3) + BIAS) << exponent) - BIAS;
    signed(magnitude, byte & 0x80 != 0)
}

fn a_from_linear(sample: i16) -> u8 {
    let negative = sample < 0;
    // One below zero is the mirror of zero.
    let magnitude = i32::from(if negative { !sample } else { sample }) >> 3;
    let code = if magnitude < 32 {
        (magnitude >> 1) as u8
    } else {
        let exponent = magnitude.ilog2() - 4;
        ((exponent as u8) << 4) | ((magnitude >> exponent) & 0x0F) as u8
    };
    (if negative { code } else { code | 0x80 }) ^ 0x55
}

fn linear_from_a(byte: u8) -> i16 {
    let code = byte ^ 0x55;
    let exponent = (code >> 4) & 7;
    let mantissa = (i32::from(code & 0x0F) << 4) + 8;
    let magnitude = match exponent {
        0 => mantissa,
        exponent => (mantissa + 0x100) << (exponent - 1),
    };
    signed(magnitude, code & 0x80 == 0)
}

fn signed(magnitude: i32, negative: bool) -> i16 {
    (if negative { -magnitude } else { magnitude }) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of G.711 tables 1a and 2a, scaled to sixteen bits.
    #[test]
    fn values_of_the_recommendation() {
        for (byte, value) in [
            (0xFF, 0),
            (0x7F, 0),
            (0x80, 32_124),
            (0x00, -32_124),
            (0x8F, 16_764),
            (0xEF, 132),
            (0xF0, 120),
        ] {
            assert_eq!(linear_from_mu(byte), value, "mu {byte:#x}");
        }
        for (byte, value) in [
            (0xD5, 8),
            (0x55, -8),
            (0xAA, 32_256),
            (0x2A, -32_256),
            (0xD4, 24),
            (0xC5, 264),
        ] {
            assert_eq!(linear_from_a(byte), value, "A {byte:#x}");
        }
    }

    /// Each code comes back from the value that it stands for; the two zeros of mu-law are one.
    #[test]
    fn each_code_stands_for_itself() {
        for byte in 0..=255_u8 {
            assert_eq!(a_from_linear(linear_from_a(byte)), byte);
            let mu = mu_from_linear(linear_from_mu(byte));
            assert!(mu == byte || byte == 0x7F && mu == 0xFF, "{byte:#x}");
        }
    }

    /// No sample is farther from what it becomes than half of a step, which is at most a sixteenth of it.
    #[test]
    fn what_comes_back_is_near() {
        for sample in i16::MIN..=i16::MAX {
            let limit = (i32::from(sample).abs() >> 4).max(8) + 8;
            for back in [
                linear_from_mu(mu_from_linear(sample)),
                linear_from_a(a_from_linear(sample)),
            ] {
                let error = (i32::from(back) - i32::from(sample)).abs();
                let clipped = i32::from(sample).abs() > CLIP;
                assert!(error <= limit || clipped && error < 700, "{sample}: {back}");
            }
        }
    }
}
