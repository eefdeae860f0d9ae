# cython: boundscheck=False, wraparound=False, cdivision=True
"""Cuts texts into terms and counts them: what ``tfxc.data.text.terms`` does in Python.

A term is a path in a tree: its first token, from there its second, and so on. Tokens are words or
single characters, a number each; a table maps (node, token) to the next node. So an n-gram costs
one look-up after the n-gram before it, and its name is made only once, at the end.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memset

from tfxc.ops.text.token_patterns import combining_marks

cdef extern from "Python.h":
    int Py_UNICODE_ISALNUM(uint32_t) noexcept
    int Py_UNICODE_ISSPACE(uint32_t) noexcept
    uint32_t PyUnicode_MAX_CHAR_VALUE(object)
    uint32_t *PyUnicode_AsUCS4(object, uint32_t *, Py_ssize_t, int) except NULL
    object PyUnicode_FromKindAndData(int, const void *, Py_ssize_t)
    const char *PyUnicode_AsUTF8AndSize(object, Py_ssize_t *) except NULL
    enum: PyUnicode_4BYTE_KIND

cdef extern from *:
    int __builtin_ctzll(uint64_t) noexcept nogil

cdef enum:
    CODE_POINTS = 0x110000
    FIRST_MARK = 0x300  # no mark or joiner has a lower code point
    WORD = 1  # of a character: part of a word
    JOINER = 2  # of a character: part of a word between two that are
    CHARACTER = 0x80000000  # of a token: this character, not a word of one character
    UNKNOWN = -1  # instead of the number of a term
    LEFT_OUT = -2
    RUNS = 0
    BLANKS = 1
    CHARACTERS = 2
    CHARACTERS_OF_WORDS = 3
    CHARACTERS_IN_WORDS = 4
    SYMBOLS = 5
    MEMORABLE = 64  # characters of a part of a text whose terms are remembered
    MEMORY = 1 << 22  # numbers: 16 MiB

cdef uint64_t FACTOR = 0x9E3779B97F4A7C15
# Another one in each process, as for strings of Python, against texts made of words that collide.
cdef uint64_t SEED = <uint64_t>(<int64_t>hash("terms"))
cdef uint8_t[CODE_POINTS] CLASSES
cdef bint all_classified = False
MODES = {"runs": RUNS, "word": BLANKS, "char": CHARACTERS, "char_wb": CHARACTERS_OF_WORDS,
         "in_words": CHARACTERS_IN_WORDS, "symbols": SYMBOLS}


cdef void classify(uint32_t first, uint32_t last) noexcept:
    cdef uint32_t point
    for point in range(first, last):
        CLASSES[point] = WORD if Py_UNICODE_ISALNUM(point) or point == c"_" else 0


cdef int classify_all() except -1:
    global all_classified
    classify(FIRST_MARK, CODE_POINTS)
    for mark in combining_marks():
        CLASSES[<uint32_t>ord(mark)] = WORD
    CLASSES[0x200C] = CLASSES[0x200D] = JOINER
    all_classified = True
    return 0


classify(0, FIRST_MARK)


cdef void *grown(void *items, int64_t count, size_t size) except NULL:
    cdef void *larger = realloc(items, max(count, 1) * size)
    if larger == NULL:
        raise MemoryError
    return larger


cdef inline int64_t more(int64_t needed) noexcept:
    """Returns room for so many items and some that will follow."""
    return needed + needed // 2 + 64


cdef struct Slot:
    uint64_t key
    int32_t node  # -1 says that the slot is free
    uint32_t place  # of a token's characters


cdef struct Table:
    Slot *slots
    int bits
    int64_t count


cdef inline uint64_t slot_of(const Table *table, uint64_t key) noexcept:
    return ((key ^ SEED) * FACTOR) >> (64 - table.bits)


cdef int open_table(Table *table, int bits) except -1:
    table.slots = <Slot *>grown(NULL, <int64_t>1 << bits, sizeof(Slot))
    memset(table.slots, 0xFF, sizeof(Slot) << bits)
    table.bits = bits
    table.count = 0
    return 0


cdef int enter(Table *table, Slot entry) except -1:
    """Adds an entry; half of the slots stay free."""
    cdef Table larger
    cdef int64_t i
    cdef uint64_t place
    if 2 * (table.count + 1) > <int64_t>1 << table.bits:
        open_table(&larger, table.bits + 1)
        for i in range(<int64_t>1 << table.bits):
            if table.slots[i].node >= 0:
                enter(&larger, table.slots[i])
        free(table.slots)
        table[0] = larger
    place = slot_of(table, entry.key)
    while table.slots[place].node >= 0:
        place = (place + 1) & ((<uint64_t>1 << table.bits) - 1)
    table.slots[place] = entry
    table.count += 1
    return 0


cdef struct Marked:
    # Which numbers occur: a bit each, and a bit for each 64 of those. They come out in order.
    uint64_t *bits
    uint64_t *groups
    int64_t room


cdef int make_room(Marked *marked, int64_t numbers) except -1:
    cdef int64_t room = marked.room
    if numbers <= room:
        return 0
    marked.room = (more(numbers) >> 12 << 12) + 4096
    marked.bits = <uint64_t *>grown(marked.bits, marked.room >> 6, 8)
    marked.groups = <uint64_t *>grown(marked.groups, marked.room >> 12, 8)
    memset(&marked.bits[room >> 6], 0, (marked.room - room) >> 3)
    memset(&marked.groups[room >> 12], 0, (marked.room - room) >> 9)
    return 0


cdef inline void mark(Marked *marked, int64_t number) noexcept:
    marked.bits[number >> 6] |= <uint64_t>1 << (number & 63)
    marked.groups[number >> 12] |= <uint64_t>1 << ((number >> 6) & 63)


cdef int64_t take(Marked *marked, int64_t numbers, int32_t *taken) noexcept:
    """Writes the marked numbers, all below ``numbers``, in order, and unmarks them."""
    cdef int64_t i, word, count = 0
    cdef uint64_t group, bits
    for i in range((numbers >> 12) + 1):
        if i << 12 >= marked.room:
            break
        group = marked.groups[i]
        marked.groups[i] = 0
        while group:
            word = (i << 6) + __builtin_ctzll(group)
            group &= group - 1
            bits = marked.bits[word]
            marked.bits[word] = 0
            while bits:
                taken[count] = <int32_t>((word << 6) + __builtin_ctzll(bits))
                count += 1
                bits &= bits - 1
    return count


cdef class Lists:
    """Ids and values of texts, as long as they get."""
    cdef int32_t *ids
    cdef float *values
    cdef int64_t count, room

    def __dealloc__(self):
        free(self.ids)
        free(self.values)

    cdef int reserve(self, int64_t added) except -1:
        cdef int64_t room = more(self.count + added)
        if self.count + added > self.room:
            self.ids = <int32_t *>grown(self.ids, room, 4)
            self.values = <float *>grown(self.values, room, 4)
            self.room = room
        return 0

    cdef arrays(self):
        ids = np.empty(self.count, np.int32)
        values = np.empty(self.count, np.float32)
        cdef int32_t[::1] ids_view = ids
        cdef float[::1] values_view = values
        if self.count:
            memcpy(&ids_view[0], self.ids, self.count * 4)
            memcpy(&values_view[0], self.values, self.count * 4)
        return ids, values


cdef class TermTree:
    """Terms, and how to find them in texts.

    Args:
        blocks: what to count, one after the other: what the tokens are ("runs" of word characters,
            "symbols" other than blanks, or by pecos_tfidf's names "word", "char" and "char_wb", or
            "in_words", characters as ``WordTerms`` takes them, which may follow one of the first
            two), and the smallest and the largest n of the n-grams.
        shortest: characters of the shortest word of "runs".
        most: tokens of a text, by pecos_tfidf's names, beyond which it is cut off; None = none.
        terms: strings, words with a space between or characters after a space: their numbers are
            their places, and no others are found. None = every term gets a number when it first
            occurs.
        left_out: words that ``sequences`` passes over.
    """
    cdef list _blocks
    cdef bint _learning, _one_line, _no_controls
    cdef Py_ssize_t _shortest, _most
    cdef Table _words, _children
    # By node: the node before (-1 of a token), the node of its last token (of a token the place of
    # its characters), and the term's number.
    cdef int32_t *_before
    cdef uint32_t *_last
    cdef int32_t *_numbers
    cdef int64_t _num_nodes, _node_room
    # Of all tokens: how many characters, and which.
    cdef uint32_t *_characters
    cdef int64_t _num_characters, _character_room
    # By number of a term.
    cdef int32_t *_term_nodes
    cdef uint32_t *_counts
    cdef int64_t _num_terms, _term_room
    cdef Marked _marked
    # Of one text: its characters, the nodes of its tokens (-1 where no n-gram goes on) and of its
    # n-grams, and how many terms were found.
    cdef uint32_t *_text
    cdef int32_t *_sequence
    cdef int32_t *_grams
    cdef Py_ssize_t _text_room, _length
    cdef int64_t _found
    # Parts of texts and the numbers of their terms, how much memory they take, and where the terms
    # of the last one are counted (NULL if they are not).
    cdef Table _parts
    cdef int32_t *_memory
    cdef int64_t _remembered
    cdef int32_t *_last_count

    def __cinit__(self, blocks, Py_ssize_t shortest=1, most=None, terms=None, left_out=()):
        self._blocks = [(MODES[tokens], least, longest) for tokens, least, longest in blocks]
        modes = {mode for mode, _, _ in self._blocks}
        self._no_controls = not modes.isdisjoint({CHARACTERS_IN_WORDS, SYMBOLS})
        self._one_line = not modes <= {RUNS, CHARACTERS_IN_WORDS, SYMBOLS}
        self._shortest = shortest
        self._most = -1 if most is None else most
        open_table(&self._words, 10)
        open_table(&self._children, 10)
        open_table(&self._parts, 10)
        self._learning = True
        if terms is not None:
            self._take_terms(terms)
        for word in left_out:
            self._load(word)
            self._numbers[self._word(0, self._length)] = LEFT_OUT
        self._learning = terms is None

    def __dealloc__(self):
        free(self._words.slots)
        free(self._children.slots)
        free(self._parts.slots)
        free(self._memory)
        free(self._before)
        free(self._last)
        free(self._numbers)
        free(self._characters)
        free(self._term_nodes)
        free(self._counts)
        free(self._marked.bits)
        free(self._marked.groups)
        free(self._text)
        free(self._sequence)
        free(self._grams)

    def bags(self, texts):
        """Counts the terms of texts.

        Args:
            texts: iterable of n strings.

        Returns:
            int64 (n + 1,) bounds of each text in the other two; int32, its terms, ascending;
            float32, how often each occurs.
        """
        cdef Lists lists = Lists()
        cdef int64_t i
        cdef int32_t number
        bounds = [0]
        for text in texts:
            self._load(text)
            self._clean()
            for mode, least, longest in self._blocks:
                if mode == CHARACTERS_IN_WORDS:
                    self._count_parts(least, longest)
                else:
                    self._count_grams(self._cut(mode), least, longest)
            lists.reserve(self._found)
            take(&self._marked, self._num_terms, &lists.ids[lists.count])
            for i in range(lists.count, lists.count + self._found):
                number = lists.ids[i]
                lists.values[i] = <float>self._counts[number]
                self._counts[number] = 0
            lists.count += self._found
            self._found = 0
            bounds.append(lists.count)
        return np.array(bounds, np.int64), *lists.arrays()

    def sequences(self, texts):
        """Finds the tokens of texts.

        Args:
            texts: iterable of n strings.

        Returns:
            int64 (n + 1,) bounds of each text in the other; int32, its tokens in order, -1 for one
            that is not among the terms.
        """
        cdef Lists lists = Lists()
        cdef Py_ssize_t i, count
        cdef int32_t number
        bounds = [0]
        for text in texts:
            self._load(text)
            self._clean()
            count = self._cut(self._blocks[0][0])
            lists.reserve(count)
            for i in range(count):
                number = UNKNOWN
                if self._sequence[i] >= 0:
                    number = self._number_of(self._sequence[i])
                if number != LEFT_OUT:
                    lists.ids[lists.count] = number
                    lists.count += 1
            bounds.append(lists.count)
        return np.array(bounds, np.int64), lists.arrays()[0]

    def names(self):
        """Returns the terms by number, of a tree without given ``terms``."""
        return [self._name(self._term_nodes[number]) for number in range(self._num_terms)]

    cdef _name(self, int32_t node):
        """Joins words by spaces, or characters after a space."""
        cdef Py_ssize_t length = 1, begin, end
        cdef const uint32_t *token  # its length, then its characters
        cdef int32_t step = node
        while step >= 0:  # how long it gets
            length += self._token_of(step)[0] + 1
            step = self._before[step]
        self._make_text_room(length)
        end = begin = length
        step = node
        while step >= 0:  # from its end to its beginning
            token = self._token_of(step)
            if token[0] == 1 and token[1] & CHARACTER:
                begin -= 1
                self._text[begin] = token[1] & ~<uint32_t>CHARACTER
                if self._before[step] < 0:
                    begin -= 1
                    self._text[begin] = c" "
            else:
                if step != node:
                    begin -= 1
                    self._text[begin] = c" "
                begin -= token[0]
                memcpy(&self._text[begin], &token[1], token[0] * 4)
            step = self._before[step]
        return PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, &self._text[begin], end - begin)

    cdef const uint32_t *_token_of(self, int32_t node) noexcept:
        if self._before[node] >= 0:
            node = <int32_t>self._last[node]
        return &self._characters[self._last[node]]

    cdef int _take_terms(self, terms) except -1:
        cdef Py_ssize_t i, start
        cdef int32_t node
        for number, term in enumerate(terms):
            self._load(term)
            node = -1
            start = 0
            if self._length and self._text[0] == c" ":
                for i in range(1, self._length):
                    node = self._next(node, self._character(self._text[i]))
            else:
                for i in range(self._length + 1):
                    if i == self._length or self._text[i] == c" ":
                        node = self._next(node, self._word(start, i))
                        start = i + 1
            if node >= 0:
                self._numbers[node] = number
            self._num_terms = number + 1
        self._make_term_room()
        return 0

    cdef int _make_text_room(self, Py_ssize_t length) except -1:
        cdef Py_ssize_t room = more(length + 1)
        if length >= self._text_room:
            self._text = <uint32_t *>grown(self._text, room, 4)
            # A word of "char_wb" has two spaces and an end for each space or more in the text.
            self._sequence = <int32_t *>grown(self._sequence, 2 * room + 8, 4)
            self._grams = <int32_t *>grown(self._grams, 2 * room + 8, 4)
            self._text_room = room
        return 0

    cdef int _load(self, str text) except -1:
        """Takes the characters of a text, and 0 after them."""
        if not all_classified and PyUnicode_MAX_CHAR_VALUE(text) >= FIRST_MARK:
            classify_all()
        self._length = len(text)
        self._make_text_room(self._length)
        PyUnicode_AsUCS4(text, self._text, self._text_room, 1)
        return 0

    cdef void _clean(self) noexcept:
        """Replaces characters that the blocks do not know."""
        cdef Py_ssize_t i
        cdef uint32_t point
        if self._one_line:
            for i in range(self._length):
                if self._text[i] == c"\n" or self._text[i] == c"\r":
                    self._text[i] = c" "
        if self._no_controls:
            for i in range(self._length):
                point = self._text[i]
                if point == 0 or point == 0xFFFF or Py_UNICODE_ISSPACE(point):
                    self._text[i] = c" "
                elif 0xD800 <= point < 0xE000:
                    self._text[i] = 0xFFFD

    cdef Py_ssize_t _cut(self, int mode) except -1:
        """Cuts the text into tokens; returns how many."""
        cdef Py_ssize_t count = 0, i = 0, start, length = self._length
        if mode == RUNS:
            return self._cut_runs()
        if mode == SYMBOLS:
            for i in range(length):
                if self._text[i] != c" ":
                    self._sequence[count] = self._word(i, i + 1)
                    count += 1
            return count
        if mode == BLANKS:
            while i < length and count != self._most:
                start = i
                while self._text[i] != c" " and i < length:
                    i += 1
                if i > start:
                    self._sequence[count] = self._word(start, i)
                    count += 1
                i += 1
            return count
        if self._most >= 0:
            length = min(length, self._most)
        if mode == CHARACTERS:
            for i in range(length):
                self._sequence[i] = self._character(self._text[i])
            return length
        while i < length:  # each word between two spaces
            if self._text[i] == c" ":
                i += 1
                continue
            self._sequence[count] = self._character(c" ")
            count += 1
            while i < length and self._text[i] != c" ":
                self._sequence[count] = self._character(self._text[i])
                count += 1
                i += 1
            self._sequence[count] = self._character(c" ")
            self._sequence[count + 1] = -1
            count += 2
        return count

    cdef Py_ssize_t _cut_runs(self) except -1:
        """Cuts the text into runs of word characters, see ``tfxc.ops.text.token_patterns``."""
        cdef const uint32_t *text = self._text
        cdef Py_ssize_t count = 0, i = 0, start, after, length = self._length
        cdef uint64_t state
        while i < length:
            if CLASSES[text[i]] != WORD:
                i += 1
                continue
            start = i
            state = SEED
            while True:
                while CLASSES[text[i]] == WORD:
                    state = (state ^ text[i]) * FACTOR
                    i += 1
                after = i
                while CLASSES[text[after]] == JOINER:
                    after += 1
                if after == i or CLASSES[text[after]] != WORD:
                    break
                while i < after:
                    state = (state ^ text[i]) * FACTOR
                    i += 1
            if i - start >= self._shortest:
                self._sequence[count] = self._token(&text[start], i - start, state ^ state >> 32)
                count += 1
            i = after
        return count

    cdef int32_t _word(self, Py_ssize_t start, Py_ssize_t end) except -2:
        """Finds the node of some characters of the text; -1 if it is not known."""
        cdef uint64_t state = SEED
        cdef Py_ssize_t i
        for i in range(start, end):
            state = (state ^ self._text[i]) * FACTOR
        return self._token(&self._text[start], end - start, state ^ state >> 32)

    cdef int32_t _character(self, uint32_t point) except -2:
        """Finds the node of a character that is a token; -1 if it is not known."""
        cdef uint32_t token = point | CHARACTER
        return self._token(&token, 1, token)

    cdef int32_t _token(self, const uint32_t *text, Py_ssize_t size, uint64_t key) except -2:
        cdef uint64_t place = slot_of(&self._words, key)
        cdef uint64_t last_place = (<uint64_t>1 << self._words.bits) - 1
        cdef int64_t start
        cdef const uint32_t *token
        cdef Slot entry
        while self._words.slots[place].node >= 0:
            if self._words.slots[place].key == key:
                token = &self._characters[self._words.slots[place].place]
                if token[0] == size and memcmp(&token[1], text, size * 4) == 0:
                    return self._words.slots[place].node
            place = (place + 1) & last_place
        if not self._learning:
            return -1
        start = self._num_characters
        self._num_characters += size + 1
        if self._num_characters > 0xFFFFFFFF:
            raise OverflowError("more than 4,294,967,295 characters of words in a block of texts")
        if self._num_characters > self._character_room:
            self._character_room = more(self._num_characters)
            self._characters = <uint32_t *>grown(self._characters, self._character_room, 4)
        self._characters[start] = <uint32_t>size
        memcpy(&self._characters[start + 1], text, size * 4)
        entry = Slot(key, self._new_node(-1, <uint32_t>start), <uint32_t>start)
        enter(&self._words, entry)
        return entry.node

    cdef int32_t _next(self, int32_t before, int32_t token) except -2:
        """Finds the node of a token after another node (-1 for none); -1 if it is not known."""
        cdef uint64_t key = <uint64_t>before << 32 | <uint64_t>token
        cdef uint64_t place, last_place
        cdef Slot entry
        if before < 0:
            return token
        place = slot_of(&self._children, key)
        last_place = (<uint64_t>1 << self._children.bits) - 1
        while self._children.slots[place].node >= 0:
            if self._children.slots[place].key == key:
                return self._children.slots[place].node
            place = (place + 1) & last_place
        if not self._learning:
            return -1
        entry = Slot(key, self._new_node(before, <uint32_t>token), 0)
        enter(&self._children, entry)
        return entry.node

    cdef int32_t _new_node(self, int32_t before, uint32_t last) except -2:
        cdef int64_t node = self._num_nodes
        if node == 0x7FFFFFFF:
            raise OverflowError("more than 2,147,483,647 terms in a block of texts")
        if node == self._node_room:
            self._node_room = more(node)
            self._before = <int32_t *>grown(self._before, self._node_room, 4)
            self._last = <uint32_t *>grown(self._last, self._node_room, 4)
            self._numbers = <int32_t *>grown(self._numbers, self._node_room, 4)
        self._before[node] = before
        self._last[node] = last
        self._numbers[node] = UNKNOWN
        self._num_nodes += 1
        return <int32_t>node

    cdef int _count_parts(self, Py_ssize_t least, Py_ssize_t longest) except -1:
        """Counts the n-grams of the characters of each part of the text between blanks."""
        cdef Py_ssize_t i = 0, start, length
        cdef uint64_t state
        cdef int32_t count
        cdef const int32_t *numbers
        while i < self._length:
            if self._text[i] == c" ":
                i += 1
                continue
            start = i
            state = SEED
            while i < self._length and self._text[i] != c" ":
                state = (state ^ self._text[i]) * FACTOR
                i += 1
            state ^= state >> 32
            numbers = self._recall(start, i, state)
            if numbers != NULL:
                for count in range(numbers[0]):
                    self._count_number(numbers[count + 1])
                continue
            length = i - start + 2
            self._sequence[0] = self._sequence[length - 1] = self._character(c" ")
            for count in range(<int32_t>(length - 2)):
                self._sequence[count + 1] = self._character(self._text[start + count])
            if length <= MEMORABLE:
                self._remember(start, i, state)
            self._count_grams(length, min(least, length), longest)
            self._last_count = NULL
        return 0

    cdef const int32_t *_recall(self, Py_ssize_t start, Py_ssize_t end, uint64_t key) noexcept:
        """Finds how many terms a part of the text has, and their numbers; NULL if not known."""
        cdef uint64_t place = slot_of(&self._parts, key)
        cdef const int32_t *part  # its length, its characters, how many terms, their numbers
        while self._parts.slots[place].node >= 0:
            part = &self._memory[self._parts.slots[place].place]
            if self._parts.slots[place].key == key and part[0] == end - start:
                if memcmp(&part[1], &self._text[start], part[0] * 4) == 0:
                    return &part[1 + part[0]]
            place = (place + 1) & ((<uint64_t>1 << self._parts.bits) - 1)
        return NULL

    cdef int _remember(self, Py_ssize_t start, Py_ssize_t end, uint64_t key) except -1:
        """Lets the terms that are counted next be those of a part of the text."""
        cdef int32_t *part
        if self._memory == NULL:
            self._memory = <int32_t *>grown(NULL, MEMORY, 4)
        if self._remembered + MEMORABLE * (MEMORABLE + 2) > MEMORY:
            self._remembered = 0  # forgets all
            memset(self._parts.slots, 0xFF, sizeof(Slot) << self._parts.bits)
            self._parts.count = 0
        part = &self._memory[self._remembered]
        part[0] = <int32_t>(end - start)
        memcpy(&part[1], &self._text[start], part[0] * 4)
        self._last_count = &part[1 + part[0]]
        self._last_count[0] = 0
        enter(&self._parts, Slot(key, 0, <uint32_t>self._remembered))
        self._remembered += part[0] + 2
        return 0

    cdef int _count_grams(self, Py_ssize_t length, Py_ssize_t least, Py_ssize_t longest) except -1:
        """Counts the n-grams of the first tokens of the sequence, the shorter ones first."""
        cdef int32_t *grams = self._grams
        cdef const int32_t *sequence = self._sequence
        cdef Py_ssize_t n, i
        memcpy(grams, sequence, length * 4)
        for n in range(1, min(longest, length) + 1):
            if n > 1:
                for i in range(length - n + 1):
                    if grams[i] >= 0:
                        if sequence[i + n - 1] < 0:
                            grams[i] = -1
                        else:
                            grams[i] = self._next(grams[i], sequence[i + n - 1])
            if n >= least:
                for i in range(length - n + 1):
                    if grams[i] >= 0:
                        self._count(grams[i])
        return 0

    cdef inline int _count(self, int32_t node) except -1:
        cdef int32_t number = self._number_of(node)
        if number < 0:
            return 0
        if self._last_count != NULL:
            self._last_count[0] += 1
            self._last_count[self._last_count[0]] = number
            self._remembered += 1
        self._count_number(number)
        return 0

    cdef inline void _count_number(self, int32_t number) noexcept:
        self._counts[number] += 1
        if self._counts[number] == 1:
            self._found += 1
            mark(&self._marked, number)

    cdef inline int32_t _number_of(self, int32_t node) except -3:
        """Finds a term's number, the next one if it has none yet; below 0: not to be counted."""
        cdef int32_t number = self._numbers[node]
        if number == UNKNOWN and self._learning:
            number = <int32_t>self._num_terms
            self._num_terms += 1
            self._make_term_room()
            self._numbers[node] = number
            self._term_nodes[number] = node
        return number

    cdef int _make_term_room(self) except -1:
        cdef int64_t room = self._term_room
        if self._num_terms > room:
            self._term_room = more(self._num_terms)
            self._counts = <uint32_t *>grown(self._counts, self._term_room, 4)
            memset(&self._counts[room], 0, (self._term_room - room) * 4)
            if self._learning:
                self._term_nodes = <int32_t *>grown(self._term_nodes, self._term_room, 4)
            make_room(&self._marked, self._term_room)
        return 0


def sorted_rows(
    const int64_t[::1] indptr, const int32_t[::1] ids, const float[::1] values, int64_t width
):
    """Orders rows of bags by their ids, each of which is there once; those of -1 are left out.

    Args:
        indptr, ids, values: CSR arrays (n, width).
        width: ids are below it.

    Returns:
        The arrays of the rows.

    Raises:
        ValueError: an id is not below the width.
    """
    if len(ids) and np.asarray(ids).max() >= width:
        raise ValueError(f"an id is not below {width}")
    cdef Marked marked
    cdef int64_t row, i, first, count = 0
    cdef int32_t[::1] sorted_ids = np.empty(max(1, len(ids)), np.int32)
    cdef float[::1] sorted_values = np.empty(max(1, len(ids)), np.float32)
    cdef int64_t[::1] bounds = np.zeros(len(indptr), np.int64)
    cdef float[::1] value_of = np.empty(max(1, width), np.float32)
    memset(&marked, 0, sizeof(Marked))
    make_room(&marked, width)
    for row in range(len(indptr) - 1):
        for i in range(indptr[row], indptr[row + 1]):
            if ids[i] >= 0:
                mark(&marked, ids[i])
                value_of[ids[i]] = values[i]
        first = count
        count += take(&marked, width, &sorted_ids[0] + first)
        for i in range(first, count):
            sorted_values[i] = value_of[sorted_ids[i]]
        bounds[row + 1] = count
    free(marked.bits)
    free(marked.groups)
    kept = slice(count)
    return np.asarray(bounds), np.asarray(sorted_ids)[kept], np.asarray(sorted_values)[kept]


def murmur_hashes(names):
    """Hashes texts by MurmurHash3, of 32 bits and with seed 0.

    Args:
        names: list of n strings.

    Returns:
        int32 (n,).

    Source: https://en.wikipedia.org/wiki/MurmurHash
    """
    cdef int32_t[::1] hashes = np.empty(max(1, len(names)), np.int32)
    cdef const uint8_t *data
    cdef Py_ssize_t size, i, number
    cdef uint32_t state, part
    for number, name in enumerate(names):
        data = <const uint8_t *>PyUnicode_AsUTF8AndSize(name, &size)
        state = part = 0
        for i in range(size):
            part |= <uint32_t>data[i] << (8 * (i & 3))
            if i & 3 == 3 or i == size - 1:  # four bytes, or what is left
                part *= <uint32_t>0xCC9E2D51
                part = (part << 15 | part >> 17) * <uint32_t>0x1B873593
                state ^= part
                part = 0
                if i & 3 == 3:
                    state = (state << 13 | state >> 19) * 5 + <uint32_t>0xE6546B64
        state ^= <uint32_t>size
        state = (state ^ state >> 16) * <uint32_t>0x85EBCA6B
        state = (state ^ state >> 13) * <uint32_t>0xC2B2AE35
        hashes[number] = <int32_t>(state ^ state >> 16)
    return np.asarray(hashes)[: len(names)]
