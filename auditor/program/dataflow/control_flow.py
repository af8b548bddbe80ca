"""Control flow: branches and what they leave behind, loops and what they carry round."""

import ast
from collections.abc import Mapping

from auditor.program.dataflow.expressions import choices, length_of
from auditor.program.dataflow.functions import Functions
from auditor.program.dataflow.heap import element
from auditor.program.dataflow.marks import Loop, Source, of_kind
from auditor.program.dataflow.values import NOTHING, Scope, Value, constant, join
from auditor.syntax import statements

# What a block of statements ends with.
FALLS, LEAVES = False, True


class ControlFlow(Functions):
    """Statements that decide whether and how often others run."""

    def _if(self, node: ast.If) -> bool:
        test = self.eval(node.test)
        truth = self.truth(test)
        seen = self.logs.show(node)
        if truth is False and seen is True:
            truth = None  # the log holds a line that only this branch prints
            self._switch_on(node.test)
        if seen is False and truth is not False:
            self.doubted.add(test)
        if truth is None:
            return self._either(node, test)
        branch = node.body if truth else node.orelse
        if branch and isinstance(branch[-1], ast.Raise):
            return FALLS  # the script did run: what refuses to run was not reached
        return self._doubting(node, test) if truth else self.block(branch)

    def _switch_on(self, test: ast.expr) -> None:
        """What a branch that ran was tested for was true, whatever its default: the same switch
        may guard branches that print nothing.
        """
        if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
            for operand in test.values:
                self._switch_on(operand)
        elif isinstance(test, ast.Name | ast.Attribute):
            value = self.eval(test)
            if self.truth(value) is False:
                self.assign(test, constant(True) if value.const is False else NOTHING)

    def _doubting(self, node: ast.If, test: Value) -> bool:
        """Runs the branch of a true test, in doubt if the logs know nothing of what it prints."""
        outer = self.doubt
        if test in self.doubted:
            self.doubt = self.place(node)
        leaves = self.block(node.body)
        self.doubt = outer
        return leaves

    def _either(self, node: ast.If, test: Value) -> bool:
        """Runs both branches and joins what they leave behind."""
        scope = self.scopes[0]
        before = dict(scope)
        outer, swayed = self.first_only, self.swayed
        self.first_only = outer | _first_iteration(node.test, test)
        self.swayed |= choices(test)
        since = len(self.weighed)
        left = self._doubting(node, test)
        self.first_only = outer
        after = dict(scope)
        scope.clear()
        scope.update(before)
        trained = [(root, root.trained) for root, _ in self.weighed[since:]]
        for root, previous in reversed(self.weighed[since:]):
            root.trained = previous  # one branch does not train what the other scores
        right = self.block(node.orelse)
        self.swayed = swayed
        for root, carried in trained:
            root.trained |= carried
        if left and right:
            return LEAVES
        if right:
            scope.clear()
            scope.update(after)
        elif not left:
            _merge(scope, after)
        return FALLS

    def _for(self, node: ast.For | ast.AsyncFor) -> None:
        iterable = self.eval(node.iter)
        length = length_of(iterable)
        if length == 0:
            self.block(node.orelse)
            return
        loop = Loop(self.place(node), length == 1)
        self._enter(node, loop)
        self.assign(node.target, element(iterable).with_deps((loop,)))
        order, seen = self.order, self._of_validation() if self.watched else set()
        self.block(node.body)
        if self.watched and self.order == order and not self._of_validation() <= seen:
            self.block(node.body)  # what one turn leaves behind the next one reads
        self.loops = self.loops[:-1]
        self.block(node.orelse)

    def _of_validation(self) -> set[str]:
        """This function's names for what was computed from validation data."""
        return {n for n, v in self.scopes[0].items() if Source("val") in v.all_deps()}

    def _while(self, node: ast.While) -> None:
        loop = Loop(self.place(node))
        self._enter(node, loop)
        test = self.eval(node.test)
        if self.truth(test) is not False:
            self.block(node.body)
        self.loops = self.loops[:-1]
        self.block(node.orelse)

    def _enter(self, node: ast.For | ast.AsyncFor | ast.While, loop: Loop) -> None:
        """Names that the body rebinds are no constants in it; a counter changes with the loop."""
        self.loops = (*self.loops, loop)
        scope = self.scopes[0]
        for name, counts in _carried(node).items():
            value = scope.get(name)
            if value is not None and not value.objects and not loop.once:
                deps = value.deps | {loop} if counts else value.deps
                scope[name] = Value(deps, start=value.start, linear=value.linear)

    def _with(self, node: ast.With | ast.AsyncWith) -> bool:
        for item in node.items:
            value = self.eval(item.context_expr)
            if item.optional_vars is not None:
                self.assign(item.optional_vars, value)
        return self.block(node.body)

    def _try(self, node: ast.Try) -> bool:
        left = self.block(node.body)
        if not left:
            left = self.block(node.orelse)
        scope = self.scopes[0]
        for handler in node.handlers:
            before = dict(scope)
            if handler.name:
                scope[handler.name] = NOTHING
            leaves = self.block(handler.body)
            if leaves:
                scope.clear()
                scope.update(before)
            else:
                _merge(scope, before)
                left = FALLS
        return self.block(node.finalbody) or left

    def _match(self, node: ast.Match) -> None:
        self.eval(node.subject)
        for case in node.cases:
            self.block(case.body)


def _merge(scope: Scope, other: Mapping[str, Value]) -> None:
    for name, value in other.items():
        mine = scope.get(name)
        if mine is not value:
            scope[name] = value if mine is None else join([mine, value])


def _first_iteration(node: ast.expr, test: Value) -> frozenset[Loop]:
    """The loops of which a test `variable == 0` admits the first iteration alone."""
    if (
        isinstance(node, ast.Compare)
        and isinstance(node.ops[0], ast.Eq)
        and isinstance(node.comparators[0], ast.Constant)
        and node.comparators[0].value == 0
    ):
        return of_kind(test.deps, Loop)
    return frozenset()


def _carried(node: ast.For | ast.AsyncFor | ast.While) -> dict[str, bool]:
    """Names that a loop's body rebinds: true where it adds to them, or it is a `while`."""
    names: dict[str, bool] | None = getattr(node, "_carried", None)
    if names is None:
        names = {}
        for inner in statements(node):
            if isinstance(inner, ast.AugAssign):
                if isinstance(inner.target, ast.Name):
                    names[inner.target.id] = True
            elif isinstance(inner, ast.Assign):
                for target in inner.targets:
                    for leaf in target.elts if isinstance(target, ast.Tuple) else [target]:
                        if isinstance(leaf, ast.Name):
                            names.setdefault(leaf.id, isinstance(node, ast.While))
        node._carried = names  # type: ignore[union-attr]
    return names
