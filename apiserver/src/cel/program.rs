//! Environments, and the programs that are compiled in them.

use std::{fmt, sync::Arc};

use super::{
    ast::{Expr, ExprKind, Literal},
    check::{self, Checked, Names, Reference},
    declared,
    estimate::{self, Cost},
    eval::{self, Bindings},
    fixed, format_check, functions, homogeneous,
    meter::{Budget, EvalError, Meter},
    parser,
    schema::{Fields, Schema},
    source::Issues,
    types::Type,
    value::Value,
};

/// What names mean to an expression.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    names: Names,
    variables: Vec<(String, Type)>,
    root: Option<Arc<Schema>>,
}

/// What `oldSelf` is in a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// Not there.
    None,
    /// Of the same type as `self`.
    Same,
    /// That, or missing.
    Optional,
}

/// What a policy declares besides what all have.
#[derive(Clone, Debug, Default)]
pub struct Declarations {
    /// It has parameters; with their schema, if that is known.
    pub params: bool,
    /// It may ask the authorizer.
    pub authorizer: bool,
    /// It builds changes.
    pub mutation: bool,
    /// Its own variables, in their order.
    pub variables: Vec<(String, Type)>,
    /// What the object is, where types are to be checked; anything otherwise.
    pub object: Option<Arc<Schema>>,
    /// What the parameters are.
    pub params_schema: Option<Arc<Schema>>,
}

/// A compiled expression.
#[derive(Debug)]
pub struct Program {
    source: Arc<str>,
    checked: Checked,
    output: Type,
    root: Option<Arc<Schema>>,
    unready: Option<String>,
}

/// What an evaluation came to.
#[derive(Debug)]
pub struct Evaluation<'a> {
    /// The value, or why there is none.
    pub result: Result<Value<'a>, EvalError>,
    /// What it cost.
    pub cost: u64,
}

/// Why an expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// It can't be understood, or its types don't fit.
    #[error("compilation failed: {0}")]
    Issues(Issues),
    /// It can't be made ready to run.
    #[error("program instantiation failed: {0}")]
    Instantiation(String),
    /// Its result is of another type than wanted.
    #[error("must evaluate to {wanted} but got {found}")]
    Output {
        /// What it may be.
        wanted: String,
        /// What it is.
        found: String,
    },
}

impl Environment {
    /// Of a rule in a schema: `self`, and perhaps `oldSelf`.
    #[must_use]
    pub fn rules(schema: Arc<Schema>, old: Old) -> Self {
        let own = schema.ty();
        let mut variables = vec![("self".into(), own.clone())];
        match old {
            Old::None => {}
            Old::Same => variables.push(("oldSelf".into(), own)),
            Old::Optional => variables.push(("oldSelf".into(), Type::optional(own))),
        }
        Self { names: Names { variables, mutation: false }, variables: Vec::new(), root: Some(schema) }
    }

    /// Of a policy or a match condition.
    #[must_use]
    pub fn admission(declared: &Declarations) -> Self {
        let object = declared.object.as_ref().map_or(Type::Dyn, |schema| schema.ty());
        let mut variables: Vec<(Arc<str>, Type)> = vec![
            ("object".into(), object.clone()),
            ("oldObject".into(), object),
            ("namespaceObject".into(), declared::namespace()),
            ("request".into(), declared::request()),
        ];
        if declared.params {
            let params = declared.params_schema.as_ref().map_or(Type::Dyn, |schema| schema.ty());
            variables.push(("params".into(), params));
        }
        if declared.authorizer {
            variables.push(("authorizer".into(), declared::authorizer()));
            variables.push(("authorizer.requestResource".into(), declared::resource_check()));
        }
        let names = Names { variables, mutation: declared.mutation };
        let mut own = Self { names, variables: declared.variables.clone(), root: None };
        own.declare_variables();
        own
    }

    /// Of an expression that sees only these variables.
    #[must_use]
    pub fn with(variables: Vec<(&str, Type)>) -> Self {
        let variables = variables.into_iter().map(|(name, ty)| (name.into(), ty)).collect();
        Self { names: Names { variables, mutation: false }, variables: Vec::new(), root: None }
    }

    /// Tells how large what the variables hold can get, for estimates.
    #[must_use]
    pub fn sized(mut self, root: Arc<Schema>) -> Self {
        self.root = Some(root);
        self
    }

    /// Declares one more variable of a policy, as `variables.name`.
    #[must_use]
    pub fn with_variable(mut self, name: &str, ty: Type) -> Self {
        self.variables.retain(|(own, _)| own != name);
        self.variables.push((name.to_owned(), ty));
        self.declare_variables();
        self
    }

    /// Without the variables of a policy, which conditions of a match don't see.
    #[must_use]
    pub fn without_variables(mut self) -> Self {
        self.variables.clear();
        self.names.variables.retain(|(name, _)| **name != *"variables");
        self
    }

    fn declare_variables(&mut self) {
        let ty = Type::Object(Arc::new(Fields::typed("kubernetes.variables", self.variables.clone())));
        self.names.variables.retain(|(name, _)| **name != *"variables");
        self.names.variables.push(("variables".into(), ty));
    }

    /// Compiles an expression.
    pub fn compile(&self, source: &str) -> Result<Program, Issues> {
        let mut checked = check::check(source, parser::parse(source)?, &self.names)?;
        let mut issues = Issues::of(source);
        check_literals(&checked.root, &mut issues);
        homogeneous::check(&checked.root, &checked, &mut issues);
        format_check::check(&checked.root, &checked.types, &mut issues);
        if !issues.is_empty() {
            return Err(issues);
        }
        let output = usize::try_from(checked.root.id).ok().and_then(|at| checked.types.get(at));
        let output = output.cloned().unwrap_or(Type::Dyn);
        let unready = fixed::mark(&mut checked).err();
        Ok(Program { source: source.into(), checked, output, root: self.root.clone(), unready })
    }

    /// Compiles an expression whose result must be of one of these types.
    pub fn compile_as(&self, source: &str, wanted: &[Type]) -> Result<Program, CompileError> {
        let program = self.compile(source).map_err(CompileError::Issues)?;
        if wanted.contains(&program.output) {
            return match program.unready() {
                None => Ok(program),
                Some(why) => Err(CompileError::Instantiation(why)),
            };
        }
        let names: Vec<String> = wanted.iter().map(Type::runtime_name).collect();
        let wanted = match names.as_slice() {
            [one] => one.clone(),
            several => format!("one of [{}]", several.join(" ")),
        };
        Err(CompileError::Output { wanted, found: program.output.runtime_name() })
    }
}

impl Program {
    /// Type of the result.
    #[must_use]
    pub fn output_type(&self) -> &Type {
        &self.output
    }

    /// The text it was compiled from.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it looks at this variable.
    #[must_use]
    pub fn uses(&self, variable: &str) -> bool {
        let of = |own: &Reference| matches!(own, Reference::Variable(name) if **name == *variable);
        self.checked.references.iter().any(of)
    }

    /// Whether it looks at this field of this variable, be it only to see whether it is there.
    #[must_use]
    pub fn selects(&self, variable: &str, field: &str) -> bool {
        selects(&self.checked.root, variable, field)
    }

    /// Why it can't be made ready to run, if so: upstream reads constant patterns and numbers once, when it does that.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        self.unready.clone()
    }

    /// What it costs at least and at most.
    #[must_use]
    pub fn estimate(&self) -> Cost {
        estimate::estimate(&self.checked, self.root.as_ref())
    }

    /// Evaluates it.
    #[must_use]
    pub fn evaluate<'a>(&'a self, bindings: &Bindings<'a>, budget: Budget) -> Evaluation<'a> {
        let meter = Meter::new(budget);
        let result = eval::run(&self.checked, bindings, &meter);
        Evaluation { result, cost: meter.cost() }
    }

    /// Evaluates it as a part of something whose cost is counted.
    pub fn evaluate_on<'a>(&'a self, bindings: &Bindings<'a>, meter: &Meter) -> Result<Value<'a>, EvalError> {
        eval::run(&self.checked, bindings, meter)
    }
}

impl fmt::Display for Program {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.source)
    }
}

/// Whether `variable.field` or `variable.?field` stands anywhere in an expression.
fn selects(expr: &Expr, variable: &str, field: &str) -> bool {
    let is_variable = |own: &Expr| own.ident().is_some_and(|name| **name == *variable);
    let here = match &expr.kind {
        ExprKind::Select { operand, field: own, .. } => is_variable(operand) && **own == *field,
        ExprKind::Call { function, target: None, args } if **function == *"_?._" => match args.as_slice() {
            [operand, Expr { kind: ExprKind::Literal(Literal::String(own)), .. }] => {
                is_variable(operand) && **own == *field
            }
            _ => false,
        },
        _ => false,
    };
    here || expr.children().into_iter().any(|child| selects(child, variable, field))
}

/// Constants that can't be read as the functions they are given to do.
fn check_literals(expr: &Expr, issues: &mut Issues) {
    if let ExprKind::Call { function, args, .. } = &expr.kind
        && let Some(Expr { at, kind: ExprKind::Literal(literal), .. }) = args.first()
    {
        let readable = match (&**function, literal) {
            ("matches", Literal::String(text)) => crate::pattern::compile(text).is_ok(),
            (name @ ("duration" | "timestamp"), _) => {
                functions::find(name).is_none_or(|own| (own.run)(&[eval::literal(literal)]).is_ok())
            }
            _ => true,
        };
        if !readable {
            issues.add(*at, format!("invalid {function} argument"));
        }
    }
    expr.children().into_iter().for_each(|child| check_literals(child, issues));
}
