//! Where models run.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The device that the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreferredDevice {
    /// The GPU when there is a real one, else the processor.
    #[default]
    Auto,
    /// The GPU, even an emulated one.
    Gpu,
    /// The processor.
    Cpu,
}

impl PreferredDevice {
    /// All choices, in the order in which the page offers them.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Gpu, Self::Cpu];

    /// Its name for display.
    pub fn label(self) -> &'static str {
        match self {
            Self::Auto => "Automatic",
            Self::Gpu => "GPU",
            Self::Cpu => "Processor",
        }
    }
}

impl fmt::Display for PreferredDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Gpu => "gpu",
            Self::Cpu => "cpu",
        })
    }
}

impl FromStr for PreferredDevice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|choice| choice.to_string() == text)
            .ok_or_else(|| format!("device \"{text}\": expected auto, gpu or cpu"))
    }
}

/// The GPU as this browser offers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "name")]
pub enum Gpu {
    /// A graphics processor, with its name as far as the browser discloses it.
    Real(String),
    /// A graphics interface that is emulated on the processor.
    Software(String),
    /// None.
    Missing,
}

impl Gpu {
    /// True when a model loaded with `choice` runs on the GPU.
    pub fn serves(&self, choice: PreferredDevice) -> bool {
        match choice {
            PreferredDevice::Cpu => false,
            PreferredDevice::Auto => matches!(self, Self::Real(_)),
            PreferredDevice::Gpu => *self != Self::Missing,
        }
    }

    /// Its name for display: `GPU (nvidia ampere)`.
    pub fn label(&self) -> String {
        match self {
            Self::Real(name) if name.is_empty() => "GPU".to_string(),
            Self::Real(name) => format!("GPU ({name})"),
            Self::Software(name) if name.is_empty() => "emulated GPU".to_string(),
            Self::Software(name) => format!("emulated GPU ({name})"),
            Self::Missing => "no GPU".to_string(),
        }
    }

    /// Where a model loaded with `choice` will run and why, as one sentence.
    pub fn explain(&self, choice: PreferredDevice) -> String {
        match (self, choice) {
            (_, PreferredDevice::Cpu) => "The model runs on this device's processor.".to_string(),
            (Self::Real(_), _) => format!("The model runs on the {}.", self.label()),
            (Self::Software(_), PreferredDevice::Auto) => {
                format!(
                    "No usable GPU was found, only an {}, so the model runs on this device's processor.",
                    self.label()
                )
            }
            (Self::Software(_), PreferredDevice::Gpu) => {
                format!("The model runs on the {}: correctly, but slowly.", self.label())
            }
            (Self::Missing, PreferredDevice::Auto) => {
                "No usable GPU was found, so the model runs on this device's processor.".to_string()
            }
            (Self::Missing, PreferredDevice::Gpu) => {
                "This browser offers no GPU; choose the processor, or a browser with WebGPU.".to_string()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulated_gpu_is_used_only_when_chosen() {
        let software = Gpu::Software("SwiftShader".to_string());
        let real = Gpu::Real("GeForce".to_string());
        for (gpu, expected) in
            [(&real, [true, true, false]), (&software, [false, true, false]), (&Gpu::Missing, [false, false, false])]
        {
            assert_eq!(PreferredDevice::ALL.map(|choice| gpu.serves(choice)), expected, "{gpu:?}");
        }
        assert_eq!(
            Gpu::Missing.explain(PreferredDevice::Auto),
            "No usable GPU was found, so the model runs on this device's processor."
        );
        assert!(software.explain(PreferredDevice::Gpu).contains("SwiftShader"));
        assert!(real.explain(PreferredDevice::Auto).contains("GeForce"));
    }

    #[test]
    fn a_choice_reads_what_it_writes() {
        for choice in PreferredDevice::ALL {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert!("tpu".parse::<PreferredDevice>().is_err());
    }
}
