"""sample.py - one conversation of the corpus, and how an answer to it is checked.

A question is everything before the last assistant message; that message is the answer.  The
check says what "the same answer" means to eval.py: `text` the same characters, `number` the
same last number, `json` an equal value, `tools` equal names and arguments in any order,
`story` the properties listed in `must`.
"""
import json
from dataclasses import dataclass, field


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def calls(*named_arguments):
    """An assistant message that calls tools: pairs of name and arguments."""
    return {"role": "assistant", "content": "", "tool_calls": [
        {"type": "function", "function": {"name": name, "arguments": arguments}}
        for name, arguments in named_arguments]}


def tool_result(value):
    return {"role": "tool", "content": compact(value)}


def compact(value):
    """JSON as templates print it, so that one spelling is all there is to learn."""
    return json.dumps(value, ensure_ascii=False)


@dataclass
class Sample:
    skill: str
    messages: list
    check: str = "text"
    tools: list = None
    must: dict = None                       # of a story: hero, title, sentences
    values: list = field(default_factory=list)  # strings and numbers that eval holds out

    @property
    def question(self):
        """What the answer is given to, as one string: equal ones are the same question."""
        return compact([self.messages[:-1], self.tools])

    @property
    def last_user_text(self):
        return next(m["content"] for m in reversed(self.messages) if m["role"] == "user")

    def record(self, for_eval=False):
        out = {"messages": self.messages}
        if self.tools:
            out["tools"] = self.tools
        out["skill"] = self.skill
        if for_eval:
            out["check"] = self.check
            if self.must:
                out["must"] = self.must
        return out


def ask(skill, question, answer, **more):
    """The commonest sample: one question, one answer."""
    return Sample(skill, [user(question), assistant(answer)], **more)
