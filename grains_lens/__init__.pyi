from . import worlds as worlds
from .pairs import MultipleChoice as MultipleChoice
from .pairs import PreferencePair as PreferencePair
