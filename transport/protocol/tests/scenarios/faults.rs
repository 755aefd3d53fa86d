scenarios! {}
