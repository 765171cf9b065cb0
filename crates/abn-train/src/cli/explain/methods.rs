//! The methods that are asked for, and whether the network can do them.

use abn_backbones::Variant;
use abn_explain::{Branch, Error, Explain, Method};
use abn_train::Run;
use anyhow::{Result, bail};

/// Methods, ready to be asked.
pub struct Chosen {
    pub methods: Vec<(Method, Box<dyn Explain>)>,
    pub branch: Branch,
    pub layer: Option<String>,
}

impl Chosen {
    /// The methods of these names, or the usual ones, tried out on an image of zeros.
    pub fn new(run: &Run, asked: &[String], branch: Branch, layer: Option<&str>) -> Result<Self> {
        let mut methods = Vec::new();
        for name in asked {
            let more = match name.as_str() {
                "all" => can_do(run, branch, &Method::ALL),
                name => vec![name.parse()?],
            };
            methods.extend(more);
        }
        if asked.is_empty() {
            use Method::{Attention, Cam, GradCam, GuidedBackprop};
            methods = can_do(run, branch, &[Attention, GradCam, Cam, GuidedBackprop]);
        }
        let mut seen = Vec::new();
        methods.retain(|method| {
            !seen.contains(method) && {
                seen.push(*method);
                true
            }
        });
        if let Some(layer) = layer
            && !methods.iter().any(|method| method.looks_at_a_layer())
        {
            bail!("none of the methods asked for looks at a layer such as {layer}; grad-cam does");
        }
        let chosen = Self {
            methods: methods.iter().map(|m| (*m, m.explainer_of(branch, layer))).collect(),
            branch,
            layer: layer.map(str::to_owned),
        };
        chosen.try_out(run)?;
        Ok(chosen)
    }

    fn try_out(&self, run: &Run) -> Result<()> {
        let variant = run.recipe.variant;
        if self.branch == Branch::Attention && !matches!(variant, Variant::Abn | Variant::Control) {
            bail!(
                "--branch attention: {} is a {variant} network, which has one branch; train one with --variant abn",
                run.checkpoint.display()
            );
        }
        let zeros = run.zeros(1)?;
        for (method, explainer) in &self.methods {
            if *method == Method::Cam && self.branch == Branch::Attention {
                bail!("cam explains the perception branch; leave it out, or --branch attention");
            }
            match explainer.explain(&*run.model, &zeros, &[0]) {
                Ok(_) => {}
                Err(Error::NoAttention) => bail!(
                    "{method}: {} is a {variant} network, which has no attention map to show; train one with \
                     --variant abn",
                    run.checkpoint.display()
                ),
                Err(error) => bail!("{method}: {error}"),
            }
        }
        Ok(())
    }

    /// The methods' names, in their order.
    pub fn names(&self) -> Vec<String> {
        self.methods.iter().map(|(method, _)| method.to_string()).collect()
    }
}

/// Those of the methods that make sense of this network and branch.
fn can_do(run: &Run, branch: Branch, methods: &[Method]) -> Vec<Method> {
    let can = |method: &Method| match method {
        // A control's map is the same everywhere.
        Method::Attention => run.recipe.variant == Variant::Abn,
        Method::Cam => run.model.class_weights().is_some() && branch == Branch::Perception,
        _ => true,
    };
    methods.iter().copied().filter(can).collect()
}
