"""The language that texts of messages are written in: Django's templates, cut down to what can only put words in their
place. Four tags, a few filters, names that the kind of message knows; nothing is loaded, called or looked up in an object.
A loop inside a loop goes through a part of the outer one's row, so what a text makes grows as its list does, never faster."""

import functools
from collections.abc import Iterator

from django.template import Context, Engine, Library, Template, TemplateSyntaxError, defaultfilters, defaulttags
from django.template.base import FilterExpression, Lexer, Parser, TextNode, TokenType, Variable, VariableNode
from django.template.defaulttags import CommentNode, ForNode, IfNode, WithNode
from django.utils.translation import gettext as _

from crm.exceptions import BrokenText
from crm.texts.kinds import KINDS, Rows

TAGS = ("comment", "for", "if", "with")
OF_ROWS = {"first", "last", "length", "slice"}
OF_WORDS = {
    "capfirst", "default", "length", "linebreaks", "linebreaksbr", "lower", "pluralize", "slice", "title", "truncatechars",
    "truncatewords", "upper", "yesno",
}  # fmt: skip
FILTERS = OF_ROWS | OF_WORDS
FORLOOP = dict.fromkeys(("counter", "counter0", "first", "last", "revcounter", "revcounter0"), "")
MOST_CHARACTERS = 30_000
# How much of what somebody typed an error repeats.
SHOWN = 60

register = Library()
register.tags = {name: defaulttags.register.tags[name] for name in TAGS}
register.filters = {name: defaultfilters.register.filters[name] for name in FILTERS}


class _Refused(TemplateSyntaxError):
    """In words of ours; Django's own are for those who write programs."""


class _Engine(Engine):
    default_builtins = [__name__]


class _Parser(Parser):
    def invalid_block_tag(self, token, command, parse_until=None):
        if command.startswith("end") or command in ("else", "elif", "empty"):
            text = _("{%% %(name)s %%} closes nothing that is open here.")
        else:
            text = _("{%% %(name)s %%} is not possible here. Possible are: %(known)s.")
        raise self.error(token, _Refused(text % {"name": command[:SHOWN], "known": ", ".join(TAGS)}))

    def unclosed_block_tag(self, parse_until):
        command, token = self.command_stack.pop()
        text = _("{%% %(name)s %%} is never closed. Close it with {%% end%(name)s %%}.")
        raise self.error(token, _Refused(text % {"name": command}))

    def find_filter(self, name):
        if name not in self.filters:
            text = _("The filter |%(name)s is not possible here. Possible are: %(known)s.")
            raise _Refused(text % {"name": name[:SHOWN], "known": ", ".join(sorted(FILTERS))})
        return super().find_filter(name)


class _Template(Template):
    def compile_nodelist(self):
        tokens = Lexer(self.source).tokenize()
        _drop_lines_of_tags(tokens)
        return _Parser(tokens, builtins=self.engine.template_builtins, origin=self.origin).parse()


def _drop_lines_of_tags(tokens: list) -> None:
    """A line that holds tags alone leaves no empty line behind."""
    alone = True  # whether nothing but tags stands on this line so far
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.token_type is TokenType.VAR:
            alone = False
        elif token.token_type is TokenType.TEXT:
            text = token.contents
            if alone and before is not None and text.startswith("\n"):
                token.contents = text[1:]
            last = text.rsplit("\n", 1)
            alone = not last[-1].strip() and (alone or len(last) == 2)


@functools.lru_cache(maxsize=256)
def compiled(kind: str, source: str, *, is_html: bool = False, is_subject: bool = False) -> Template:
    """Raises BrokenText for whatever is not possible in a text of this kind."""
    if len(source) > MOST_CHARACTERS:
        raise BrokenText(_("This is longer than %(most)s characters."), most=MOST_CHARACTERS)
    try:
        template = _Template(source, engine=_Engine(loaders=[], autoescape=is_html))
        _Checker(kind, is_subject=is_subject).check(template.nodelist)
    except RecursionError:
        raise BrokenText(_("Too many tags inside one another.")) from None
    except (TemplateSyntaxError, StopIteration) as error:  # the latter is a slip of Django's own, over an open quote
        said = str(error)
        if not isinstance(error, _Refused):
            said = _("This cannot be read: %(source)s") % {"source": error.token.contents[:SHOWN]}
        raise BrokenText(_("Line %(line)s: %(error)s"), line=error.token.lineno, error=said) from None
    return template


def rendered(template: Template, context: dict) -> str:
    return template.render(Context(context, autoescape=template.engine.autoescape))


class _Checker:
    """Walks a compiled text. In a scope each name has its shape (a word, a row's parts, or Rows) and how many loops deep it
    was found; tags that it does not know are refused."""

    def __init__(self, kind: str, *, is_subject: bool):
        self.kind, self.is_subject = KINDS[kind], is_subject
        self.token = None

    def check(self, nodelist) -> None:
        self._nodes(nodelist, {name: (shape, 0) for name, shape in self.kind.variables.items()}, 0)

    def _nodes(self, nodelist, scope: dict, depth: int) -> None:
        for node in nodelist:
            self.token = node.token
            match node:
                case TextNode():
                    self._text(node)
                case VariableNode():
                    self._word(node.filter_expression, scope)
                case IfNode():
                    for condition, inside in node.conditions_nodelists:
                        for expression in _operands(condition):
                            self._found(expression, scope)
                        self._nodes(inside, scope, depth)
                case WithNode():
                    named = {name: self._found(each, scope) for name, each in node.extra_context.items()}
                    self._nodes(node.nodelist, scope | named, depth)
                case ForNode():
                    self._loop(node, scope, depth)
                case CommentNode():
                    pass
                case _:
                    self._refuse(_("This tag is not possible here."))

    def _text(self, node) -> None:
        for opening in ("{{", "{%"):
            if opening in node.s:
                self.token.lineno += node.s[: node.s.index(opening)].count("\n")
                self._refuse(_("%(opening)s is not closed on its line.") % {"opening": opening})

    def _word(self, expression, scope: dict) -> None:
        shape, _depth = self._found(expression, scope)
        name = str(expression.token)[:SHOWN]
        if isinstance(shape, Rows):
            text = _("%(name)s is a list. Go through it: {%% for line in %(name)s %%} … {%% endfor %%}.")
            self._refuse(text % {"name": name})
        if isinstance(shape, dict):
            text = _("%(name)s has parts; write one of them: %(known)s.")
            self._refuse(text % {"name": name, "known": ", ".join(f"{name}.{part}" for part in shape)})

    def _loop(self, node, scope: dict, depth: int) -> None:
        shape, found_at = self._found(node.sequence, scope)
        name = str(node.sequence.token)[:SHOWN]
        if not isinstance(shape, Rows):
            self._refuse(_("%(name)s is no list, so nothing can go through it.") % {"name": name})
        if found_at != depth:
            self._refuse(_("A loop inside a loop goes through a part of the outer one's row; %(name)s is none.") % {"name": name})  # fmt: skip
        if len(node.loopvars) != 1:
            self._refuse(_("A loop has one name for its row: {%% for line in %(name)s %%}.") % {"name": name})
        row = {node.loopvars[0]: (shape.parts, depth + 1), "forloop": (FORLOOP, depth + 1)}
        self._nodes(node.nodelist_loop, scope | row, depth + 1)
        self._nodes(node.nodelist_empty, scope, depth)

    def _found(self, expression, scope: dict) -> tuple[object, int]:
        """The shape of what an expression comes to, and how many loops deep it was found."""
        shape, depth = "", 0
        if isinstance(expression.var, Variable) and expression.var.lookups:
            shape, depth = self._looked_up(expression.var, scope)
        for function, arguments in expression.filters:
            name = function._filter_name
            if any(is_lookup for is_lookup, _argument in arguments):
                self._refuse(_("What follows |%(name)s: stands in quotes.") % {"name": name})
            allowed = OF_ROWS if isinstance(shape, Rows) else () if isinstance(shape, dict) else OF_WORDS
            if name not in allowed:
                self._refuse(_("|%(name)s does not fit here.") % {"name": name})
            if isinstance(shape, Rows):
                shape = {"slice": shape, "length": ""}.get(name, shape.parts)
        return shape, depth

    def _looked_up(self, variable, scope: dict) -> tuple[object, int]:
        first, *rest = variable.lookups
        if first not in scope:
            text = _("%(name)s is not known here. Known are: %(known)s.")
            self._refuse(text % {"name": first[:SHOWN], "known": ", ".join(sorted(scope))})
        if self.is_subject and set(variable.lookups) & set(self.kind.private):
            text = _("%(name)s cannot stand in a subject, which is stored in the clear.")
            self._refuse(text % {"name": str(variable.var)[:SHOWN]})
        shape, depth = scope[first]
        so_far = first
        for part in rest:
            if isinstance(shape, Rows) and part.isdecimal():
                shape = shape.parts
            elif isinstance(shape, dict) and part in shape:
                shape = shape[part]
            else:
                self._refuse(_unknown_part(so_far, part, shape))
            so_far = f"{so_far}.{part}"
        return shape, depth

    def _refuse(self, text: str) -> None:
        error = _Refused(text)
        error.token = self.token
        raise error


def _unknown_part(name: str, part: str, shape) -> str:
    said = {"name": name[:SHOWN], "part": part[:SHOWN]}
    if isinstance(shape, dict):
        return _("%(name)s has no part %(part)s. Known are: %(known)s.") % {**said, "known": ", ".join(shape)}
    return _("%(name)s has no part %(part)s.") % said


def _operands(condition) -> Iterator[FilterExpression]:
    """Of the tree of a condition; an `else` has none."""
    if condition is not None:
        if isinstance(getattr(condition, "value", None), FilterExpression):
            yield condition.value
        for child in (condition.first, condition.second):
            yield from _operands(child)
