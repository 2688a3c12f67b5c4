//! The one pass over the bytes: every limit, validation, and all that instrumenting needs to know.

use crate::frame::Frame;
use crate::graph::{Analysis, Graph};
use crate::{
    ABI_SECTION, CodeError, CodeLimits, HostFunction, MEMORY, MODULE, REENTRANT_SECTION,
    STACK_GLOBAL, features, is_method_name,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use wasmparser::{
    BlockType, CompositeInnerType, ConstExpr, ElementItems, ExternalKind, FuncToValidate, FuncType,
    FuncValidatorAllocations, FunctionBody, Operator, Parser, Payload, TableInit, TypeRef,
    ValidPayload, Validator, ValidatorResources,
};

/// A function body, as offsets into the code.
#[derive(Debug)]
pub(crate) struct Body {
    /// All of it: locals and operators.
    pub(crate) range: Range<usize>,
    /// Where the operators begin.
    pub(crate) operators: usize,
    /// Of its frame, in bytes: see [`crate::frame`].
    pub(crate) cost: u32,
    /// Its part of [`Scan::exits`].
    pub(crate) exits: Range<usize>,
}

/// An operator at which a function is left, other than its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exit {
    /// Offset in the code.
    pub(crate) offset: usize,
    /// For a `return`: how many blocks it is in. `None` for a tail call.
    pub(crate) depth: Option<u32>,
}

/// What the pass finds.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Id and contents of each section, in order.
    pub(crate) sections: Vec<(u8, Range<usize>)>,
    pub(crate) types: Vec<FuncType>,
    /// Type of each function, imported ones first.
    pub(crate) functions: Vec<u32>,
    pub(crate) imported: usize,
    pub(crate) globals: u32,
    pub(crate) bodies: Vec<Body>,
    pub(crate) exits: Vec<Exit>,
    pub(crate) methods: BTreeSet<String>,
    pub(crate) reentrant: Option<BTreeSet<String>>,
    pub(crate) abi: Option<Vec<u8>>,
    /// Of each function, imported ones first: whether it can recurse.
    pub(crate) recursive: Vec<bool>,
    /// What the functions that cannot recurse take on the deepest path, in bytes.
    pub(crate) fixed_stack: u32,
    /// What was looked at: items, operators, targets, values. Time and memory are proportional to it.
    pub(crate) work: u64,
    has_memory: bool,
    exported_functions: Vec<u32>,
    table_exported: bool,
    /// Functions that a table may hold.
    taken: BTreeSet<u32>,
    /// From a function to a function, or to `TYPE + type`.
    calls: Vec<(u32, u32)>,
    segment_elements: u64,
    data_bytes: u64,
    custom_sections: u64,
    custom_bytes: u64,
    locals: u64,
}

/// Added to a type's index to tell it from a function's.
const TYPE: u32 = 1 << 31;

impl Scan {
    /// Looks at all of `code`. What was found before an error is in `self`.
    pub(crate) fn run(
        &mut self,
        code: &[u8],
        limits: &CodeLimits,
        host: &[HostFunction],
    ) -> Result<(), CodeError> {
        if !code.starts_with(b"\0asm\x01\0\0\0") {
            return Err(CodeError::NotWasm);
        }
        if code.len() > limits.code_bytes {
            return Err(CodeError::TooLarge {
                bytes: code.len(),
                limit: limits.code_bytes,
            });
        }
        let mut validator = Validator::new_with_features(features());
        let mut allocations = FuncValidatorAllocations::default();
        for payload in Parser::new(0).parse_all(code) {
            let payload = payload?;
            if let Some((id, range)) = payload.as_section() {
                self.sections.push((id, range));
            }
            // Limits first: the validator reserves memory for what a section says that it holds.
            self.section(&payload, limits, host)?;
            if let ValidPayload::Func(function, body) = validator.payload(&payload)? {
                self.body(&body, limits)?;
                allocations = validate(function, &body, allocations)?;
            }
        }
        if !self.has_memory {
            return Err(CodeError::NoMemory);
        }
        if self.methods.is_empty() {
            return Err(CodeError::NoEntryPoint);
        }
        self.check_reentrant()?;
        self.call_graph();
        if self.fixed_stack > limits.fixed_stack_bytes {
            return Err(CodeError::StackTooDeep {
                bytes: self.fixed_stack,
                limit: limits.fixed_stack_bytes,
            });
        }
        Ok(())
    }

    fn section(
        &mut self,
        payload: &Payload<'_>,
        limits: &CodeLimits,
        host: &[HostFunction],
    ) -> Result<(), CodeError> {
        match payload {
            Payload::TypeSection(section) => {
                within("types", section.count(), limits.types)?;
                for group in section.clone() {
                    for ty in group?.types() {
                        // Others are refused by the validator; an empty one keeps the indices right until then.
                        let ty = match &ty.composite_type.inner {
                            CompositeInnerType::Func(ty) => ty.clone(),
                            _ => FuncType::new([], []),
                        };
                        within(
                            "parameters of a type",
                            ty.params().len() as u64,
                            limits.params,
                        )?;
                        within(
                            "results of a type",
                            ty.results().len() as u64,
                            limits.results,
                        )?;
                        self.work += 1 + ty.params().len() as u64 + ty.results().len() as u64;
                        self.types.push(ty);
                    }
                }
            }
            Payload::ImportSection(section) => {
                within("imports", section.count(), limits.imports)?;
                for import in section.clone().into_imports() {
                    let import = import?;
                    self.work += 1 + host.len() as u64;
                    within(
                        "bytes in a name",
                        import.name.len() as u64,
                        limits.name_bytes,
                    )?;
                    within(
                        "bytes in a name",
                        import.module.len() as u64,
                        limits.name_bytes,
                    )?;
                    let found = host.iter().find(|host| host.name == import.name);
                    let (TypeRef::Func(index), MODULE, Some(found)) =
                        (import.ty, import.module, found)
                    else {
                        return Err(CodeError::UnknownImport {
                            module: import.module.to_owned(),
                            name: import.name.to_owned(),
                        });
                    };
                    let matches = self.types.get(index as usize).is_some_and(|ty| {
                        ty.params() == found.params && ty.results() == found.results
                    });
                    if !matches {
                        return Err(CodeError::ImportType {
                            name: import.name.to_owned(),
                            expected: found.to_string(),
                        });
                    }
                    self.functions.push(index);
                }
                self.imported = self.functions.len();
            }
            Payload::FunctionSection(section) => {
                let count = self.functions.len() as u64 + u64::from(section.count());
                within("functions", count, limits.functions)?;
                for index in section.clone() {
                    self.work += 1;
                    self.functions.push(index?);
                }
            }
            Payload::TableSection(section) => {
                within("tables", section.count(), limits.tables)?;
                for table in section.clone() {
                    let table = table?;
                    self.work += 1;
                    within("table elements", table.ty.initial, limits.table_elements)?;
                    if let TableInit::Expr(expression) = &table.init {
                        self.constant(expression, limits)?;
                    }
                }
            }
            Payload::MemorySection(section) => {
                within("memories", section.count(), 1u32)?;
                for memory in section.clone() {
                    self.work += 1;
                    within("memory pages", memory?.initial, limits.memory_pages)?;
                }
            }
            Payload::GlobalSection(section) => {
                within("globals", section.count(), limits.globals)?;
                for global in section.clone() {
                    self.constant(&global?.init_expr, limits)?;
                }
                self.globals = section.count();
            }
            Payload::ExportSection(section) => {
                within("exports", section.count(), limits.exports)?;
                for export in section.clone() {
                    let export = export?;
                    self.work += 1;
                    within(
                        "bytes in a name",
                        export.name.len() as u64,
                        limits.name_bytes,
                    )?;
                    self.export(&export)?;
                }
            }
            Payload::StartSection { .. } => return Err(CodeError::StartFunction),
            Payload::ElementSection(section) => {
                within("element segments", section.count(), limits.element_segments)?;
                for segment in section.clone() {
                    let segment = segment?;
                    self.work += 1;
                    if let wasmparser::ElementKind::Active { offset_expr, .. } = &segment.kind {
                        self.constant(offset_expr, limits)?;
                    }
                    let count = match &segment.items {
                        ElementItems::Functions(items) => items.count(),
                        ElementItems::Expressions(_, items) => items.count(),
                    };
                    self.segment_elements += u64::from(count);
                    within(
                        "elements in segments",
                        self.segment_elements,
                        limits.segment_elements,
                    )?;
                    match segment.items {
                        ElementItems::Functions(items) => {
                            for function in items {
                                self.work += 1;
                                self.taken.insert(function?);
                            }
                        }
                        ElementItems::Expressions(_, items) => {
                            for expression in items {
                                self.constant(&expression?, limits)?;
                            }
                        }
                    }
                }
            }
            Payload::DataCountSection { count, .. } => {
                within("data segments", *count, limits.data_segments)?;
            }
            Payload::DataSection(section) => {
                within("data segments", section.count(), limits.data_segments)?;
                for segment in section.clone() {
                    let segment = segment?;
                    self.work += 1;
                    self.data_bytes += segment.data.len() as u64;
                    within("bytes in data segments", self.data_bytes, limits.data_bytes)?;
                    if let wasmparser::DataKind::Active { offset_expr, .. } = &segment.kind {
                        self.constant(offset_expr, limits)?;
                    }
                }
            }
            Payload::CodeSectionStart { count, .. } => {
                within("functions", *count, limits.functions)?;
            }
            Payload::CustomSection(section) => self.custom(section, limits)?,
            _ => {}
        }
        Ok(())
    }

    fn export(&mut self, export: &wasmparser::Export<'_>) -> Result<(), CodeError> {
        if export.name == STACK_GLOBAL {
            return Err(CodeError::ReservedExport {
                name: export.name.to_owned(),
            });
        }
        match export.kind {
            ExternalKind::Memory if export.name == MEMORY => self.has_memory = true,
            ExternalKind::Table => self.table_exported = true,
            ExternalKind::Func => {
                self.exported_functions.push(export.index);
                let ty = self
                    .functions
                    .get(export.index as usize)
                    .and_then(|&index| self.types.get(index as usize));
                if is_method_name(export.name)
                    && ty.is_some_and(|ty| ty.params().is_empty() && ty.results().is_empty())
                {
                    self.methods.insert(export.name.to_owned());
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn custom(
        &mut self,
        section: &wasmparser::CustomSectionReader<'_>,
        limits: &CodeLimits,
    ) -> Result<(), CodeError> {
        self.work += 1;
        self.custom_sections += 1;
        within(
            "custom sections",
            self.custom_sections,
            limits.custom_sections,
        )?;
        self.custom_bytes += section.data().len() as u64 + section.name().len() as u64;
        within(
            "bytes in custom sections",
            self.custom_bytes,
            limits.custom_bytes,
        )?;
        let twice = |section| {
            Err(CodeError::Metadata {
                section,
                problem: "is there twice: keep one".to_owned(),
            })
        };
        match section.name() {
            REENTRANT_SECTION => {
                if self.reentrant.is_some() {
                    return twice(REENTRANT_SECTION);
                }
                let text =
                    std::str::from_utf8(section.data()).map_err(|_| CodeError::Metadata {
                        section: REENTRANT_SECTION,
                        problem: "is not UTF-8: write names of methods, one a line".to_owned(),
                    })?;
                self.reentrant = Some(text.lines().map(str::to_owned).collect());
            }
            ABI_SECTION => {
                if self.abi.is_some() {
                    return twice(ABI_SECTION);
                }
                self.abi = Some(section.data().to_vec());
            }
            _ => {}
        }
        Ok(())
    }

    fn check_reentrant(&self) -> Result<(), CodeError> {
        let unknown = self
            .reentrant
            .iter()
            .flatten()
            .find(|&name| !self.methods.contains(name));
        unknown.map_or(Ok(()), |name| {
            Err(CodeError::Metadata {
                section: REENTRANT_SECTION,
                problem: format!("lists {name:?}, which is not a method: export it or strike it"),
            })
        })
    }

    /// Looks at a constant expression: its length, and the functions that it refers to.
    fn constant(
        &mut self,
        expression: &ConstExpr<'_>,
        limits: &CodeLimits,
    ) -> Result<(), CodeError> {
        let mut count = 0u64;
        for operator in expression.get_operators_reader() {
            count += 1;
            within(
                "operators in a constant expression",
                count,
                limits.constant_operators,
            )?;
            if let Operator::RefFunc { function_index } = operator? {
                self.taken.insert(function_index);
            }
        }
        self.work += count;
        Ok(())
    }

    /// Looks at a function body, which is not validated yet: an index in it may be anything.
    fn body(&mut self, body: &FunctionBody<'_>, limits: &CodeLimits) -> Result<(), CodeError> {
        let function = (self.imported + self.bodies.len()) as u32;
        let within = |what, count: u64, limit: u32| {
            within(what, count, limit).map_err(|error| in_function(error, function))
        };
        let range = body.range();
        within("bytes in a function", range.len() as u64, limits.body_bytes)?;
        let ty = self
            .functions
            .get(function as usize)
            .and_then(|&ty| self.types.get(ty as usize));
        let (params, results) = ty.map_or((0, 0), |ty| (ty.params().len(), ty.results().len()));

        let mut locals = params as u64;
        let mut declarations = body.get_locals_reader()?;
        for _ in 0..declarations.get_count() {
            self.work += 1;
            // Before `read`, which knows a limit of its own.
            let (count, _) = declarations.read()?;
            locals += u64::from(count);
            within("locals", locals, limits.locals)?;
        }
        self.locals += locals;
        within("locals in all functions", self.locals, limits.total_locals)?;

        let mut frame = Frame::new(params, results, locals);
        let mut reader = body.get_operators_reader()?;
        let operators = reader.original_position();
        let exits = self.exits.len();
        // Of each local, the position of its last assignment; positions begin at 1.
        let mut assigned = vec![0u32; locals as usize];
        let mut merges = 0u64;
        let mut carried_total = 0u64;
        // Of each block around: where it begins, and what a branch to it carries. The function itself comes first.
        let mut labels = vec![(0u32, results as u64)];
        let mut position = 0u32;
        while !reader.eof() {
            let offset = reader.original_position();
            let operator = reader.read()?;
            position += 1;
            within(
                "operators in a function",
                u64::from(position),
                limits.operators,
            )?;
            self.work += 1;
            let arity = |depth: u32| -> u64 {
                let index = labels.len().checked_sub(1 + depth as usize);
                index.map_or(0, |index| labels[index].1)
            };
            let signature = |ty: Option<&FuncType>| {
                ty.map_or((0, 0), |ty| {
                    (ty.params().len() as u64, ty.results().len() as u64)
                })
            };
            let mut carried = 0;
            match operator {
                Operator::Block { blockty }
                | Operator::If { blockty }
                | Operator::Loop { blockty } => {
                    let (params, results) = match blockty {
                        BlockType::Empty => (0, 0),
                        BlockType::Type(_) => (0, 1),
                        BlockType::FuncType(ty) => signature(self.types.get(ty as usize)),
                    };
                    carried = params + results;
                    let is_loop = matches!(operator, Operator::Loop { .. });
                    labels.push((position, if is_loop { params } else { results }));
                    within(
                        "blocks around one another",
                        labels.len() as u64 - 1,
                        limits.nesting,
                    )?;
                }
                Operator::End => {
                    labels.pop();
                }
                Operator::Br { relative_depth } | Operator::BrIf { relative_depth } => {
                    carried = arity(relative_depth);
                }
                Operator::BrTable { ref targets } => {
                    let count = u64::from(targets.len()) + 1;
                    within("targets of a br_table", count, limits.br_table_targets)?;
                    self.work += count;
                    carried = arity(targets.default());
                    for target in targets.targets() {
                        carried += arity(target?);
                    }
                }
                Operator::Return => {
                    carried = results as u64;
                    self.exits.push(Exit {
                        offset,
                        depth: Some((labels.len() as u32).saturating_sub(1)),
                    });
                }
                Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                    self.calls.push((function, function_index));
                    let ty = self.functions.get(function_index as usize);
                    let (params, results) =
                        signature(ty.and_then(|&ty| self.types.get(ty as usize)));
                    carried = params + results;
                }
                Operator::CallIndirect { type_index, .. }
                | Operator::ReturnCallIndirect { type_index, .. } => {
                    self.calls.push((function, type_index | TYPE));
                    let (params, results) = signature(self.types.get(type_index as usize));
                    carried = params + results;
                }
                Operator::RefFunc { function_index } => {
                    self.taken.insert(function_index);
                }
                Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => {
                    if let Some(last) = assigned.get_mut(local_index as usize) {
                        // Blocks that were open at the last assignment have counted this local already.
                        let inner = labels[1.min(labels.len())..].iter().rev();
                        let new = inner.take_while(|&&(start, _)| start > *last).count() as u64;
                        *last = position;
                        merges += new;
                        self.work += new;
                        within("merges of locals", merges, limits.merges)?;
                    }
                }
                _ => {}
            }
            if let Operator::ReturnCall { .. } | Operator::ReturnCallIndirect { .. } = operator {
                self.exits.push(Exit {
                    offset,
                    depth: None,
                });
            }
            carried_total += carried;
            self.work += carried;
            within(
                "values carried by control flow",
                carried_total,
                limits.carried_values,
            )?;
            frame.operator(&operator, carried);
        }
        frame.merges(merges);
        self.bodies.push(Body {
            range,
            operators,
            cost: frame.bytes(),
            exits: exits..self.exits.len(),
        });
        Ok(())
    }

    /// Finds what can recurse and how deep the rest gets. For valid code.
    fn call_graph(&mut self) {
        if self.table_exported {
            // Whoever has the table can put there what else is exported.
            self.taken.extend(self.exported_functions.iter().copied());
        }
        // Functions come first, then one node for each type: who calls a type may call any function of an equal type that a
        // table may hold. Nodes for types keep this linear.
        let count = self.functions.len() as u32;
        let mut equal: BTreeMap<&FuncType, u32> = BTreeMap::new();
        let canonical: Vec<u32> = (0u32..)
            .zip(&self.types)
            .map(|(index, ty)| *equal.entry(ty).or_insert(index))
            .collect();
        let node = |ty: u32| count + canonical[ty as usize];
        let calls = self
            .calls
            .iter()
            .map(|&(from, to)| match to.checked_sub(TYPE) {
                Some(ty) => (from, node(ty)),
                None => (from, to),
            });
        let indirect = self
            .taken
            .iter()
            .map(|&function| (node(self.functions[function as usize]), function));
        let edges: Vec<(u32, u32)> = calls.chain(indirect).collect();
        self.work += edges.len() as u64 + u64::from(count) + self.types.len() as u64;
        let Analysis {
            mut recursive,
            deepest,
        } = Graph::new(count as usize + self.types.len(), &edges).analyse(|node| {
            (node as usize)
                .checked_sub(self.imported)
                .and_then(|defined| self.bodies.get(defined))
                .map_or(0, |body| body.cost)
        });
        recursive.truncate(count as usize);
        self.recursive = recursive;
        self.fixed_stack = deepest;
    }
}

fn validate(
    function: FuncToValidate<ValidatorResources>,
    body: &FunctionBody<'_>,
    allocations: FuncValidatorAllocations,
) -> Result<FuncValidatorAllocations, CodeError> {
    let mut validator = function.into_validator(allocations);
    validator.validate(body)?;
    Ok(validator.into_allocations())
}

fn within(
    what: &'static str,
    count: impl Into<u64>,
    limit: impl Into<u64>,
) -> Result<(), CodeError> {
    let (count, limit) = (count.into(), limit.into());
    if count > limit {
        return Err(CodeError::TooMany {
            what,
            count,
            limit,
            function: None,
        });
    }
    Ok(())
}

fn in_function(error: CodeError, index: u32) -> CodeError {
    match error {
        CodeError::TooMany {
            what, count, limit, ..
        } => CodeError::TooMany {
            what,
            count,
            limit,
            function: Some(index),
        },
        other => other,
    }
}
