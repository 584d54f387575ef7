"""json_domains.py - what the JSON tasks are about.

A domain has fields: names that a schema may use for it, the kind of its value, and clauses
that say it in a sentence.  A boolean has two lists of clauses, for true and for false.  The
first field is always said, and its clause opens the text.
"""
from collections import namedtuple

Field = namedtuple("Field", "names kind clauses denials")


def field(names, kind, clauses, denials=()):
    return Field(tuple(names.split()), kind, tuple(clauses), tuple(denials))


DOMAINS = {
    "person": (
        field("name first_name person", "person",
              ("This is {v}.", "My friend is called {v}.", "{v} is here.", "I know {v}.")),
        field("age years age_years", "int:18:99",
              ("The age is {v}.", "That is a person of {v} years.", "{v} years old.")),
        field("city town home", "town", ("The home is in {v}.", "Living in {v}.", "From {v}.")),
        field("hobbies interests", "list:hobbies", ("Hobbies are {v}.", "Likes {v}.")),
        field("member is_member", "bool",
              ("A member of the club.", "In the club."),
              ("Not a member of the club.", "Not in the club.")),
        field("plan tariff", "enum:free,basic,pro", ("The plan is {v}.", "Pays for the plan {v}.")),
    ),
    "order": (
        field("customer name buyer", "person",
              ("{v} orders something.", "There is an order of {v}.", "An order from {v} came in.")),
        field("product item article", "item",
              ("The product is a {v}.", "It is about a {v}.", "The article: {v}.")),
        field("quantity count amount", "int:2:200",
              ("The quantity is {v}.", "{v} pieces are wanted.", "Send {v} of them.")),
        field("price unit_price", "decimal:1:90", ("The price is {v}.", "One costs {v}.")),
        field("paid is_paid", "bool",
              ("It is paid.", "The money has come."),
              ("It is not paid.", "The money has not come.")),
        field("shipping delivery", "enum:normal,express,pickup",
              ("Shipping is {v}.", "It goes by {v} shipping.")),
    ),
    "meeting": (
        field("title topic subject", "item",
              ("There is a meeting about the {v}.", "We talk about the {v}.",
               "The topic is the {v}.")),
        field("day weekday", "day", ("It is on {v}.", "The day is {v}.")),
        field("time start start_time", "time", ("It starts at {v}.", "The time is {v}.")),
        field("place city location", "town", ("It is in {v}.", "The place is {v}.")),
        field("minutes duration length", "int:10:180",
              ("It takes {v} minutes.", "The duration is {v} minutes.")),
        field("online is_online", "bool",
              ("It is online.", "It takes place online."),
              ("It is not online.", "It takes place in a room.")),
    ),
    "book": (
        field("author writer", "person",
              ("{v} wrote a book.", "There is a new book by {v}.", "The author is {v}.")),
        field("title name", "item", ("The title is {v}.", "The book is called {v}.")),
        field("pages page_count", "int:50:900", ("It has {v} pages.", "{v} pages.")),
        field("genre kind", "enum:novel,poems,science,travel",
              ("The genre is {v}.", "It belongs to {v}.")),
        field("available in_stock", "bool",
              ("It is available.", "It is in stock."),
              ("It is not available.", "It is out of stock.")),
    ),
    "pet": (
        field("name pet", "person",
              ("Our pet is called {v}.", "{v} is a pet.", "The name of the pet is {v}.")),
        field("kind species animal", "enum:dog,cat,bird,rabbit",
              ("It is a {v}.", "The animal is a {v}.")),
        field("weight weight_kg", "decimal:1:40",
              ("It weighs {v} kilograms.", "The weight is {v}.")),
        field("owner keeper", "person", ("It belongs to {v}.", "The owner is {v}.")),
        field("vaccinated is_vaccinated", "bool",
              ("It is vaccinated.",), ("It is not vaccinated.", )),
        field("foods eats", "list:foods", ("It eats {v}.", "Its food is {v}.")),
    ),
    "weather": (
        field("city town place", "town",
              ("This is the weather in {v}.", "Weather for {v}.", "In {v} it is like this.")),
        field("temperature degrees", "int:1:40",
              ("It has {v} degrees.", "The temperature is {v}.")),
        field("sky weather", "enum:clear,cloudy,rain,snow",
              ("The sky: {v}.", "Outside there is {v}.")),
        field("wind wind_kmh", "int:3:120", ("The wind has {v} kilometres an hour.", "Wind: {v}.")),
        field("warning alert", "bool", ("There is a warning.",), ("There is no warning.",)),
    ),
    "trip": (
        field("traveller name person", "person",
              ("{v} goes on a trip.", "{v} wants to travel.", "A trip for {v}.")),
        field("from start origin", "town", ("It begins in {v}.", "The start is {v}.")),
        field("to destination goal", "town", ("It ends in {v}.", "The goal is {v}.")),
        field("day departure_day", "day", ("It is on {v}.", "The day is {v}.")),
        field("vehicle transport", "enum:train,bus,ship,car",
              ("The way is by {v}.", "It goes by {v}.")),
        field("bags luggage", "list:things", ("The bags hold {v}.", "Along come {v}.")),
    ),
    "server": (
        field("model name", "file", ("A server runs {v}.", "The model is {v}.", "We serve {v}.")),
        field("port tcp_port", "int:1024:9999", ("The port is {v}.", "It listens on {v}.")),
        field("context ctx", "int:128:9000", ("The context is {v}.", "It has a context of {v}.")),
        field("type weights", "enum:F16,Q8_0,Q4_0,Q4_K", ("The type is {v}.", "Weights are {v}.")),
        field("ready is_ready", "bool", ("It is ready.",), ("It is not ready.",)),
        field("owner admin", "person", ("It belongs to {v}.", "{v} looks after it.")),
    ),
    "ticket": (
        field("id number code", "code",
              ("There is ticket {v}.", "Ticket {v} is new.", "The number is {v}.")),
        field("reporter author name", "person", ("{v} wrote it.", "It comes from {v}.")),
        field("priority level", "enum:low,medium,high",
              ("The priority is {v}.", "It is of {v} priority.")),
        field("open is_open", "bool", ("It is open.",), ("It is closed.",)),
        field("file attachment", "file", ("The file {v} is with it.", "It has the file {v}.")),
        field("hours effort", "int:1:90", ("It takes {v} hours.", "The effort is {v} hours.")),
    ),
    "recipe": (
        field("name dish title", "item",
              ("A recipe called {v}.", "The dish is {v}.", "We cook the {v}.")),
        field("ingredients foods", "list:foods", ("It needs {v}.", "Take {v}.")),
        field("minutes time", "int:5:180",
              ("It takes {v} minutes.", "After {v} minutes it is done.")),
        field("vegetarian meatless", "bool", ("It is vegetarian.",), ("It is not vegetarian.",)),
        field("difficulty level", "enum:easy,medium,hard",
              ("It is {v}.", "The difficulty is {v}.")),
        field("cook author", "person", ("{v} made it.", "It is by {v}.")),
    ),
    "sensor": (
        field("id sensor code", "code",
              ("Sensor {v} reports.", "This comes from sensor {v}.", "A message of {v}.")),
        field("value reading", "decimal:1:99", ("The value is {v}.", "It reads {v}.")),
        field("time at", "time", ("The time is {v}.", "It is {v}.")),
        field("room place", "item", ("It is at the {v}.", "The place is the {v}.")),
        field("ok is_ok", "bool",
              ("All is well.", "It is fine."), ("Something is wrong.", "It is broken.")),
        field("status state", "enum:on,off,standby", ("The status is {v}.", "It is in state {v}.")),
    ),
}
